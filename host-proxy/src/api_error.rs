//! What a client is told when there is no answer. It is unsigned: the client shows it and believes nothing of it.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::json;

/// Whether the guest may have started the job. A proxy's word for display only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Executed {
    /// It was never given to the guest.
    No,
    /// It was, and what became of it is not known.
    Maybe,
}

/// An error on its way to a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// HTTP status.
    pub status: StatusCode,
    /// For programs.
    pub code: &'static str,
    /// For people. It tells nothing about other clients or this host.
    pub message: String,
    /// Whether the guest may have started.
    pub executed: Executed,
}

impl Reply {
    /// Refused before the guest saw anything.
    pub fn refuse(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Reply {
            status,
            code,
            message: message.into(),
            executed: Executed::No,
        }
    }

    /// Failed after the guest was given the job.
    pub fn broken(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Reply {
            executed: Executed::Maybe,
            ..Self::refuse(status, code, message)
        }
    }

    /// Our own fault; the operator reads why in the log.
    pub fn internal(error: &dyn std::error::Error) -> Self {
        tracing::error!(%error, "internal");
        Self::refuse(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal",
            "the proxy failed; its operator can see why",
        )
    }
}

impl IntoResponse for Reply {
    fn into_response(self) -> Response {
        tracing::debug!(
            status = self.status.as_u16(),
            code = self.code,
            message = self.message,
            "refused"
        );
        let executed = match self.executed {
            Executed::No => "no",
            Executed::Maybe => "maybe",
        };
        let error = json!({ "code": self.code, "message": self.message, "executed": executed });
        (self.status, Json(json!({ "error": error }))).into_response()
    }
}
