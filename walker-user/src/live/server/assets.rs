//! The files of the page, which are a part of the program.

use axum::{
    http::{StatusCode, header},
    response::{IntoResponse as _, Response},
};

use super::refuse;
use crate::live::page::file;

/// The answer to a request for a file of the page.
pub(super) fn asset(name: &str) -> Response {
    let Some(text) = file(name) else {
        return refuse(StatusCode::NOT_FOUND, "there is nothing here");
    };
    let kind = match name.rsplit('.').next() {
        Some("js") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        _ => "text/html; charset=utf-8",
    };
    ([(header::CONTENT_TYPE, kind)], text).into_response()
}
