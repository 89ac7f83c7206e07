//! Errors: an error of the server keeps its code, and may state its kind.

use ::rmcp::ErrorData;
use ::rmcp::model::ErrorCode;
use ::rmcp::service::ServiceError;
use serde::Deserialize;
use turbomcp_core::{ErrorKind, McpError, meta_keys};

/// Precedes the code of an error in the component of its context.
const CODE: &str = "rmcp error ";

/// Converts an error of the server. Its kind is the one that its data states, as that of a `Failed` does, or else that of its code.
pub(in crate::rmcp_server) fn error_from_rmcp(error: ErrorData) -> McpError {
    let stated = error.data.as_ref().and_then(|data| ErrorKind::deserialize(data.get(meta_keys::ERROR_KIND)?).ok());
    let kind = stated.unwrap_or_else(|| match error.code {
        ErrorCode::MISSING_REQUIRED_CLIENT_CAPABILITY => ErrorKind::CapabilityNotSupported,
        ErrorCode::UNSUPPORTED_PROTOCOL_VERSION => ErrorKind::ProtocolVersionMismatch,
        code => ErrorKind::from_i32(code.0),
    });
    let mut converted = McpError::new(kind, error.message.into_owned());
    if let Some(data) = error.data {
        converted = converted.with_data(data);
    }
    if converted.jsonrpc_code() != error.code.0 {
        converted.context.get_or_insert_default().component = Some(format!("{CODE}{}", error.code.0));
    }
    converted
}

pub(in crate::rmcp_server) fn error_to_rmcp(mut error: McpError) -> ErrorData {
    let code = error.jsonrpc_code();
    let (component, data) = match error.context.take() {
        Some(context) => (context.component, context.data),
        None => (None, None),
    };
    let code = component.and_then(|component| component.strip_prefix(CODE)?.parse().ok()).unwrap_or(code);
    ErrorData::new(ErrorCode(code), error.message, data)
}

/// Converts the failure of a request to the client.
pub(in crate::rmcp_server) fn error_of_service(error: ServiceError) -> McpError {
    match error {
        ServiceError::McpError(error) => error_from_rmcp(error),
        ServiceError::Cancelled { reason } => {
            McpError::cancelled(reason.unwrap_or_else(|| "The client cancelled the request".to_owned()))
        }
        ServiceError::Timeout { timeout } => crate::outcome::timed_out(timeout),
        ServiceError::TransportClosed | ServiceError::TransportSend(_) => {
            McpError::transport("The connection to the client is closed")
        }
        other => McpError::internal(other.to_string()),
    }
}
