//! Form extractors: CSRF protection (the form key), and parsing of fields as people fill them in.

use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::response::Response;
use http::request::Parts;
use http_edge::{ErrorKind, Problem};
use serde::de::DeserializeOwned;

use super::language::Language;
use super::layout::View;
use crate::failure::{Failure, invalid};
use crate::identity::Identity;
use crate::wire::Moment;

impl<S: Send + Sync> FromRequestParts<S> for View {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Response> {
        let caller = parts.extensions.get::<Identity>().cloned();
        match caller {
            Some(caller) => Ok(Self { caller, language: Language::of_request(&parts.headers) }),
            None => Err(super::layout::redirect_to("/sign-in")),
        }
    }
}

/// Extractor of a form whose CSRF key is right.
pub(super) struct Form<T>(pub(super) T);

#[derive(serde::Deserialize)]
struct Keyed {
    #[serde(default)]
    form_key: String,
}

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Form<T> {
    type Rejection = Response;

    async fn from_request(request: Request, state: &S) -> Result<Self, Response> {
        let (mut parts, body) = request.into_parts();
        let view = View::from_request_parts(&mut parts, state).await?;
        let read = async {
            let body = crate::input::bounded(body).await?;
            // Browsers say where a form comes from; older ones do not, hence the key.
            let elsewhere = parts.headers.get("sec-fetch-site").is_some_and(|site| site != "same-origin");
            let keyed: Keyed = fields(&body)?;
            let ours =
                view.caller.form_key.as_deref().is_some_and(|key| constant_time_eq(key, &keyed.form_key));
            if elsewhere || !ours {
                let text = "the form is not one of this session; open the page again";
                return Err(Failure(Problem::new(ErrorKind::Forbidden, "foreign_form", text)));
            }
            fields(&body)
        };
        read.await.map(Self).map_err(|failure| view.refusal(&failure))
    }
}

fn fields<T: DeserializeOwned>(body: &[u8]) -> Result<T, Failure> {
    axum::extract::Query::<T>::try_from_uri(&uri_of(body)?)
        .map(|query| query.0)
        .map_err(|_| invalid("form", "has to bring every field of the page, each of its kind"))
}

/// Fields of a form are written as those of a query are.
fn uri_of(body: &[u8]) -> Result<http::Uri, Failure> {
    let text = std::str::from_utf8(body).map_err(|_| invalid("form", "has to be text"))?;
    format!("/?{text}").parse().map_err(|_| invalid("form", "is longer than a form may be, or is none"))
}

/// Compares without telling how much is right.
fn constant_time_eq(a: &str, b: &str) -> bool {
    aws_lc_rs::constant_time::verify_slices_are_equal(a.as_bytes(), b.as_bytes()).is_ok()
}

/// A day as a date field gives it: its beginning, or nothing.
pub(super) fn day(field: &str, text: &str) -> Result<Option<Moment>, Failure> {
    if text.is_empty() {
        return Ok(None);
    }
    let moment = format!("{text}T00:00:00Z").parse();
    moment.map(Some).map_err(|()| invalid(field, "has to be a day such as 2027-01-31"))
}

/// Words between commas or blanks.
pub(super) fn words(text: &str) -> Vec<String> {
    text.split([',', ' ']).filter(|word| !word.is_empty()).map(str::to_owned).collect()
}
