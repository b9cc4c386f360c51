//! The error object that a client gets instead of an answer. It is unsigned: the client shows it and believes nothing of it.

use crate::limits::BUSY_S;
use axum::Json;
use axum::http::StatusCode;
use axum::http::header::RETRY_AFTER;
use axum::response::{IntoResponse, Response};
use serde_json::json;

/// Whether the guest may have started the job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Executed {
    /// It was never given to the guest.
    No,
    /// It was, and what became of it is not known.
    Maybe,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ApiError {
    pub(crate) status: StatusCode,
    /// For programs.
    pub(crate) code: &'static str,
    /// For people. It tells nothing about other clients or this host.
    pub(crate) message: String,
    pub(crate) executed: Executed,
    /// After how many seconds the same request may be answered.
    pub(crate) retry_after_s: Option<u32>,
}

/// The code of an error, beside its response: for those that count.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ErrorCode(pub(crate) &'static str);

impl ApiError {
    /// Refused before the guest saw anything.
    pub(crate) fn refuse(
        status: StatusCode,
        code: &'static str,
        message: impl Into<String>,
    ) -> Self {
        ApiError {
            status,
            code,
            message: message.into(),
            executed: Executed::No,
            retry_after_s: None,
        }
    }

    pub(crate) fn retry_after(self, seconds: u32) -> Self {
        ApiError {
            retry_after_s: Some(seconds),
            ..self
        }
    }

    /// A request that is not of the form that this API has.
    pub(crate) fn bad_request(code: &'static str, message: impl Into<String>) -> Self {
        Self::refuse(StatusCode::BAD_REQUEST, code, message)
    }

    /// Failed after the guest was given the job.
    pub(crate) fn after_start(self) -> Self {
        ApiError {
            executed: Executed::Maybe,
            ..self
        }
    }

    pub(crate) fn busy() -> Self {
        let words = "this provider is at its limit of concurrent requests";
        Self::refuse(StatusCode::SERVICE_UNAVAILABLE, "busy", words).retry_after(BUSY_S)
    }

    /// This program ends. Whoever restarts it, or another one, takes the job.
    pub(crate) fn draining() -> Self {
        let words = "this provider is being restarted and takes no new jobs";
        Self::refuse(StatusCode::SERVICE_UNAVAILABLE, "draining", words).retry_after(BUSY_S)
    }

    /// The proxy failed; the operator reads why in the log.
    pub(crate) fn internal(error: &dyn std::error::Error) -> Self {
        tracing::error!(%error, "internal");
        Self::refuse(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal",
            "the proxy failed; its operator finds the reason in the log",
        )
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let (status, code) = (self.status.as_u16(), self.code);
        tracing::debug!(status, code, message = self.message, "refused");
        let executed = match self.executed {
            Executed::No => "no",
            Executed::Maybe => "maybe",
        };
        let error = json!({ "code": code, "message": self.message, "executed": executed });
        let mut response = (self.status, Json(json!({ "error": error }))).into_response();
        response.extensions_mut().insert(ErrorCode(code));
        if let Some(seconds) = self.retry_after_s {
            response.headers_mut().insert(RETRY_AFTER, seconds.into());
        }
        response
    }
}
