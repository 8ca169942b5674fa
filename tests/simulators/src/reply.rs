//! Answers, among them those that a sick server gives.

use std::{
    convert::Infallible,
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep};

/// What a simulator does with a request.
#[derive(Debug)]
pub(crate) enum Reply {
    /// Answer it.
    Send(Response<Body>),
    /// End the connection (HTTP/2: the stream) without an answer.
    Close,
    /// Neither: the client waits until it gives up.
    Hang,
}

/// A response body, healthy or not.
#[derive(Debug)]
pub(crate) struct Body {
    rest: Bytes,
    pace: Pace,
}

#[derive(Debug)]
enum Pace {
    AtOnce,
    /// One byte each interval.
    ByByte(Duration, Pin<Box<Sleep>>),
    /// So many bytes, then an error although Content-Length promised more.
    CutAfter(usize),
}

impl Body {
    pub(crate) fn full(bytes: impl Into<Bytes>) -> Self {
        Self {
            rest: bytes.into(),
            pace: Pace::AtOnce,
        }
    }

    pub(crate) fn by_byte(self, interval: Duration) -> Self {
        Self {
            rest: self.rest,
            pace: Pace::ByByte(interval, Box::pin(sleep(Duration::ZERO))),
        }
    }

    pub(crate) fn cut(self) -> Self {
        let half = self.rest.len() / 2;
        Self {
            rest: self.rest,
            pace: Pace::CutAfter(half),
        }
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let this = &mut *self;
        match &mut this.pace {
            _ if this.rest.is_empty() => Poll::Ready(None),
            Pace::AtOnce => Poll::Ready(Some(Ok(Frame::data(std::mem::take(&mut this.rest))))),
            Pace::ByByte(interval, pause) => {
                if pause.as_mut().poll(context).is_pending() {
                    return Poll::Pending;
                }
                pause.as_mut().reset(Instant::now() + *interval);
                Poll::Ready(Some(Ok(Frame::data(this.rest.split_to(1)))))
            }
            Pace::CutAfter(0) => Poll::Ready(Some(Err(io::ErrorKind::ConnectionAborted.into()))),
            Pace::CutAfter(bytes) => {
                let first = this.rest.split_to((*bytes).min(this.rest.len()));
                this.pace = Pace::CutAfter(0);
                Poll::Ready(Some(Ok(Frame::data(first))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.rest.len() as u64)
    }
}

/// A response of one content type.
pub(crate) fn response(
    status: StatusCode,
    content_type: &'static str,
    body: impl Into<Bytes>,
) -> Response<Body> {
    let mut response = Response::new(Body::full(body));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// A JSON response.
pub(crate) fn json(status: StatusCode, value: &serde_json::Value) -> Response<Body> {
    response(status, "application/json", value.to_string())
}

/// Sets a header whose value is made of plain ASCII; anything else is left out.
pub(crate) fn set_header(response: &mut Response<Body>, name: &'static str, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        response.headers_mut().insert(name, value);
    }
}

impl From<Response<Body>> for Reply {
    fn from(response: Response<Body>) -> Self {
        Self::Send(response)
    }
}

impl From<Infallible> for Reply {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}
