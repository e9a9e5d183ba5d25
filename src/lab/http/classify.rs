//! Errors named as the field reports name them, whichever library wraps them.

use std::error::Error as StdError;
use std::io::ErrorKind;

use tokio_tungstenite::tungstenite;
use tokio_tungstenite::tungstenite::error::ProtocolError;

use crate::timeline::{ErrorClass, Failure};

/// Names an error: the first cause that has a class decides.
pub fn classify(error: &(dyn StdError + 'static)) -> Failure {
    let mut texts: Vec<String> = Vec::new();
    let mut class = ErrorClass::Other;
    for cause in causes(error) {
        let text = cause.to_string();
        if !texts.last().is_some_and(|last| last.contains(&text)) {
            texts.push(text);
        }
        if class == ErrorClass::Other {
            class = class_of(cause);
        }
    }
    Failure { class, text: texts.join(": ") }
}

/// Whether a library above hyper failed before it had a connection to send the request on: name, dial or TLS.
pub fn was_connecting(error: &(dyn StdError + 'static)) -> bool {
    causes(error)
        .filter_map(|cause| cause.downcast_ref::<hyper_util::client::legacy::Error>())
        .any(hyper_util::client::legacy::Error::is_connect)
}

fn causes<'a>(error: &'a (dyn StdError + 'static)) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |error| (*error).source())
}

fn class_of(error: &(dyn StdError + 'static)) -> ErrorClass {
    if let Some(error) = error.downcast_ref::<std::io::Error>() {
        return class_of_io(error);
    }
    if error.is::<rustls::Error>() {
        return ErrorClass::Tls;
    }
    if let Some(error) = error.downcast_ref::<h2::Error>() {
        return class_of_h2(error);
    }
    if let Some(tungstenite::Error::Protocol(ProtocolError::ResetWithoutClosingHandshake)) = error.downcast_ref() {
        // A FIN in the middle of a WebSocket, whatever it says.
        return ErrorClass::UnexpectedEof;
    }
    if let Some(kube::Error::Api(status)) = error.downcast_ref::<kube::Error>() {
        return if status.code == 410 { ErrorClass::Gone } else { ErrorClass::Status };
    }
    match error.downcast_ref::<hyper::Error>() {
        Some(error) if error.is_timeout() => ErrorClass::Timeout,
        // Closed or cancelled before it was sent: the connection had ended while idle.
        Some(error) if error.is_incomplete_message() || error.is_closed() => ErrorClass::UnexpectedEof,
        Some(error) if error.is_canceled() => ErrorClass::UnexpectedEof,
        _ => ErrorClass::Other,
    }
}

fn class_of_io(error: &std::io::Error) -> ErrorClass {
    // tokio-rustls wraps TLS errors into io errors, and io errors wrap others: look inside first.
    if let Some(inner) = error.get_ref() {
        let class = class_of(inner);
        if class != ErrorClass::Other {
            return class;
        }
    }
    match error.kind() {
        ErrorKind::ConnectionRefused => ErrorClass::ConnectionRefused,
        ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted => ErrorClass::ConnectionReset,
        // This is how h2 puts it that the peer has sent its FIN while streams were open (src/proto/streams/streams.rs,
        // recv_eof). A real EPIPE is in the kernel's words.
        ErrorKind::BrokenPipe if error.to_string().ends_with("closed because of a broken pipe") => {
            ErrorClass::UnexpectedEof
        }
        ErrorKind::BrokenPipe => ErrorClass::BrokenPipe,
        ErrorKind::UnexpectedEof => ErrorClass::UnexpectedEof,
        ErrorKind::TimedOut => ErrorClass::Timeout,
        _ => ErrorClass::Other,
    }
}

fn class_of_h2(error: &h2::Error) -> ErrorClass {
    match error.get_io() {
        Some(error) => class_of_io(error),
        None if error.is_go_away() => ErrorClass::Goaway,
        None if error.is_reset() && error.is_remote() => ErrorClass::StreamReset,
        None => ErrorClass::Other,
    }
}
