//! The Kubernetes API, as far as a pod needs it: a few small calls about objects that it may read or patch by name, so
//! that no client is linked for it.

use std::path::PathBuf;
use std::time::Duration;

use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use reqwest::{Method, Request, Url};

use crate::provider::fault::{Fault, FaultClass};
use crate::provider::http::{Answer, Transports};

const FOLDER: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
const MERGE_PATCH: HeaderValue = HeaderValue::from_static("application/merge-patch+json");
/// The answer to a patch is the object, which may be large; its metadata is all that is asked for.
const METADATA_ONLY: HeaderValue =
    HeaderValue::from_static("application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1");
const FIELD_MANAGER: &str = "fieldManager=radius-proxy";

/// The API server of the cluster that this pod is in, and who the pod is there.
pub struct ApiServer {
    origin: Url,
    namespace: String,
    /// The folder of the service account: `token` and `ca.crt`, which the kubelet renews in place.
    folder: PathBuf,
    transports: Transports,
}

impl ApiServer {
    /// From `POD_NAMESPACE`, `KUBERNETES_SERVICE_HOST` and `KUBERNETES_SERVICE_PORT`; `None` outside Kubernetes.
    #[must_use]
    pub fn from_environment() -> Option<Self> {
        let of = |name| {
            std::env::var(name)
                .ok()
                .filter(|value: &String| !value.is_empty())
        };
        let (namespace, host) = (of("POD_NAMESPACE")?, of("KUBERNETES_SERVICE_HOST")?);
        let port = of("KUBERNETES_SERVICE_PORT").unwrap_or_else(|| "443".to_owned());
        let origin = origin(&host, &port);
        if origin.is_none() {
            tracing::error!(
                "KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT make no address; the Kubernetes API is not used"
            );
        }
        Some(Self::new(origin?, namespace, PathBuf::from(FOLDER)))
    }

    /// At `origin` (https), for objects of `namespace`, with `token` and `ca.crt` of `folder`.
    #[must_use]
    pub fn new(origin: Url, namespace: String, folder: PathBuf) -> Self {
        Self {
            origin,
            namespace,
            folder,
            transports: Transports::default(),
        }
    }

    /// Reads an object of this pod's namespace. `group` is the path of its API, such as `["api", "v1"]`.
    ///
    /// # Errors
    /// No complete answer within `limit`, or another status than 2xx.
    pub async fn read(
        &self,
        group: &[&str],
        resource: &str,
        name: &str,
        limit: Duration,
    ) -> Result<Answer, Fault> {
        let request = Request::new(Method::GET, self.url(group, resource, name)?);
        let answer = self.call(request, limit).await?;
        status_of(answer)
    }

    /// Patches an object by JSON merge patch (RFC 7386) and gives its new metadata. A patch that names a
    /// `resourceVersion` which is no longer the object's is not applied: `None` (409).
    ///
    /// # Errors
    /// As [`ApiServer::read`].
    pub async fn patch(
        &self,
        group: &[&str],
        resource: &str,
        name: &str,
        body: String,
        limit: Duration,
    ) -> Result<Option<Answer>, Fault> {
        let mut url = self.url(group, resource, name)?;
        url.set_query(Some(FIELD_MANAGER));
        let mut request = Request::new(Method::PATCH, url);
        request.headers_mut().insert(CONTENT_TYPE, MERGE_PATCH);
        request.headers_mut().insert(ACCEPT, METADATA_ONLY);
        *request.body_mut() = Some(body.into());
        let answer = self.call(request, limit).await?;
        if answer.status == 409 {
            return Ok(None);
        }
        status_of(answer).map(Some)
    }

    async fn call(&self, mut request: Request, limit: Duration) -> Result<Answer, Fault> {
        let (token, ca) = (self.credential("token")?, self.credential("ca.crt")?);
        let transport = self
            .transports
            .obtain(None, Some(&ca))
            .map_err(|error| Fault::before_sending(FaultClass::Tls, error.to_string()))?;
        let mut bearer = HeaderValue::from_str(&format!("Bearer {}", token.trim_end()))
            .map_err(|_| Fault::before_sending(FaultClass::Credentials, "the token is no header value"))?;
        bearer.set_sensitive(true);
        request.headers_mut().insert(AUTHORIZATION, bearer);
        transport.call(request, limit).await
    }

    fn credential(&self, name: &str) -> Result<String, Fault> {
        std::fs::read_to_string(self.folder.join(name))
            .map_err(|error| Fault::before_sending(FaultClass::Credentials, format!("{name}: {error}")))
    }

    fn url(&self, group: &[&str], resource: &str, name: &str) -> Result<Url, Fault> {
        let mut url = self.origin.clone();
        url.path_segments_mut()
            .map_err(|()| Fault::before_sending(FaultClass::Connect, "the API server's address has no path"))?
            .pop_if_empty()
            .extend(group)
            .extend(["namespaces", &self.namespace, resource, name]);
        Ok(url)
    }
}

fn status_of(answer: Answer) -> Result<Answer, Fault> {
    let class = match answer.status {
        200..=299 => return Ok(answer),
        401 | 403 => FaultClass::Credentials,
        429 => FaultClass::Throttled,
        400..=499 => FaultClass::ClientError,
        _ => FaultClass::ServerError,
    };
    let detail = format!("the API server answered {}", answer.status);
    Err(Fault::after_sending(class, detail))
}

fn origin(host: &str, port: &str) -> Option<Url> {
    let host = if host.contains(':') {
        format!("[{host}]")
    } else {
        host.to_owned()
    };
    Url::parse(&format!("https://{host}:{port}/")).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(host: &str, port: &str, name: &str) -> String {
        let server = ApiServer::new(origin(host, port).unwrap(), "mfa".to_owned(), PathBuf::new());
        let url = server.url(&["apis", "coordination.k8s.io", "v1"], "leases", name);
        url.unwrap().to_string()
    }

    #[test]
    fn an_object_is_addressed_whatever_family_the_api_server_has() {
        assert_eq!(
            path("fd00::1", "6443", "radius-0"),
            "https://[fd00::1]:6443/apis/coordination.k8s.io/v1/namespaces/mfa/leases/radius-0"
        );
        let odd = path("10.96.0.1", "443", "x/../y");
        assert!(odd.ends_with("/namespaces/mfa/leases/x%2F..%2Fy"), "{odd}");
    }
}
