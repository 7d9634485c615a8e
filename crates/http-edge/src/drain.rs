//! Connection draining: sends callers elsewhere before the listener closes. A load balancer needs a moment to notice that a
//! process is leaving, and a caller with an open connection would use it again just when it is closed.

use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::Body;
use axum::response::Response;
use http::header::{CONNECTION, HeaderValue};
use http::{Request, Version};
use tokio_util::sync::CancellationToken;
use tower::Service;

/// A service whose answers end their connection once the process is draining.
#[derive(Clone)]
pub struct DrainService<S> {
    service: S,
    draining: CancellationToken,
}

impl<S> DrainService<S> {
    /// Wraps a service. From `draining` on, each HTTP/1.1 answer is its connection's last; HTTP/2 has a word
    /// for that, which the listener says when it closes.
    pub const fn new(service: S, draining: CancellationToken) -> Self {
        Self { service, draining }
    }
}

impl<S, B> Service<Request<B>> for DrainService<S>
where
    S: Service<Request<B>, Response = Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.service.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let is_last = request.version() <= Version::HTTP_11;
        let (answer, draining) = (self.service.call(request), self.draining.clone());
        Box::pin(async move {
            let mut response = answer.await?;
            if is_last && draining.is_cancelled() {
                response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            Ok(response)
        })
    }
}

impl<S> fmt::Debug for DrainService<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DrainService")
            .field("draining", &self.draining.is_cancelled())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::routing::get;
    use tower::ServiceExt;

    use super::*;

    #[tokio::test]
    async fn only_who_leaves_sends_callers_elsewhere() {
        let draining = CancellationToken::new();
        let router = Router::new().route("/", get(|| async { "x" }));
        let service = DrainService::new(router, draining.clone());
        let ask = |version| {
            let mut request = Request::new(Body::empty());
            *request.version_mut() = version;
            service.clone().oneshot(request)
        };

        assert!(!ask(Version::HTTP_11).await.unwrap().headers().contains_key(CONNECTION));
        draining.cancel();
        assert_eq!(ask(Version::HTTP_11).await.unwrap().headers()[CONNECTION], "close");
        assert!(!ask(Version::HTTP_2).await.unwrap().headers().contains_key(CONNECTION));
    }
}
