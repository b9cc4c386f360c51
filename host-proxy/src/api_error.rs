//! The error object that a client gets instead of an answer. It is unsigned: the client shows it and believes nothing of it.

use axum::Json;
use axum::http::StatusCode;
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
}

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
        Self::refuse(StatusCode::SERVICE_UNAVAILABLE, "busy", words)
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
        (self.status, Json(json!({ "error": error }))).into_response()
    }
}
