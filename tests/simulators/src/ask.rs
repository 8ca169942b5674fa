//! A JSON call to another simulator's admin API.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, Uri, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::TokioIo;
use serde::{Serialize, de::DeserializeOwned};
use tokio::{net::TcpStream, time::timeout};

use crate::{error::Error, names::Names};

const CONNECT: Duration = Duration::from_secs(2);
const WHOLE: Duration = Duration::from_secs(10);
const ANSWER: usize = 4 << 20;

/// Posts JSON to an `http://` address and reads JSON.
pub(crate) async fn post<T: DeserializeOwned>(
    names: &Names,
    url: &str,
    body: &impl Serialize,
) -> Result<T, Error> {
    post_within(names, url, body, WHOLE).await
}

/// The same for a call that may take longer.
pub(crate) async fn post_within<T: DeserializeOwned>(
    names: &Names,
    url: &str,
    body: &impl Serialize,
    whole: Duration,
) -> Result<T, Error> {
    let failed = |what: String| Error::Ask {
        url: url.to_owned(),
        what,
    };
    match timeout(whole, exchange(names, url, body)).await {
        Ok(result) => result.map_err(failed),
        Err(_) => Err(failed(format!("no answer in {} s", whole.as_secs()))),
    }
}

async fn exchange<T: DeserializeOwned>(names: &Names, url: &str, body: &impl Serialize) -> Result<T, String> {
    let uri: Uri = url.parse().map_err(|error| format!("not an address: {error}"))?;
    let host = uri.host().ok_or("no host in it")?;
    let port = uri.port_u16().unwrap_or(80);
    let ip = names.address_of(host).await?;
    let stream = timeout(CONNECT, TcpStream::connect((ip, port)))
        .await
        .map_err(|_| "no connection in 2 s".to_owned())?
        .map_err(|error| error.to_string())?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| error.to_string())?;
    let text = serde_json::to_vec(body).map_err(|error| error.to_string())?;
    let request = Request::post(uri.path())
        .header(header::HOST, format!("{host}:{port}"))
        .header(header::CONTENT_TYPE, "application/json")
        .body(Full::new(Bytes::from(text)))
        .map_err(|error| error.to_string())?;
    let call = async {
        let response = sender
            .send_request(request)
            .await
            .map_err(|error| error.to_string())?;
        let status = response.status();
        let bytes = Limited::new(response.into_body(), ANSWER)
            .collect()
            .await
            .map_err(|error| error.to_string())?
            .to_bytes();
        match status.is_success() {
            true => serde_json::from_slice(&bytes).map_err(|error| error.to_string()),
            false => Err(format!("{status}: {}", String::from_utf8_lossy(&bytes))),
        }
    };
    // The connection lives as long as the call, and no longer; when it ends first, the call says why.
    let mut connection = std::pin::pin!(connection);
    let mut call = std::pin::pin!(call);
    tokio::select! {
        result = call.as_mut() => result,
        _ = connection.as_mut() => call.await,
    }
}
