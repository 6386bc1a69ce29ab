//! Errors as they cross the ABI: a code of the fixed catalogue and one sentence for a person.
use crate::{abi, fb, flat};

/// One of the catalogue of `abi.h`; open, because a later minor may add some.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Code(pub i32);

impl Code {
    pub const CANCELLED: Code = Code(abi::CANCELLED);
    pub const UNKNOWN: Code = Code(abi::UNKNOWN);
    pub const INVALID_ARGUMENT: Code = Code(abi::INVALID_ARGUMENT);
    pub const DEADLINE_EXCEEDED: Code = Code(abi::DEADLINE_EXCEEDED);
    pub const NOT_FOUND: Code = Code(abi::NOT_FOUND);
    pub const ALREADY_EXISTS: Code = Code(abi::ALREADY_EXISTS);
    pub const PERMISSION_DENIED: Code = Code(abi::PERMISSION_DENIED);
    pub const RESOURCE_EXHAUSTED: Code = Code(abi::RESOURCE_EXHAUSTED);
    pub const FAILED_PRECONDITION: Code = Code(abi::FAILED_PRECONDITION);
    pub const ABORTED: Code = Code(abi::ABORTED);
    pub const OUT_OF_RANGE: Code = Code(abi::OUT_OF_RANGE);
    pub const UNIMPLEMENTED: Code = Code(abi::UNIMPLEMENTED);
    pub const INTERNAL: Code = Code(abi::INTERNAL);
    pub const UNAVAILABLE: Code = Code(abi::UNAVAILABLE);
    pub const DATA_LOSS: Code = Code(abi::DATA_LOSS);
    pub const UNAUTHENTICATED: Code = Code(abi::UNAUTHENTICATED);
}

#[derive(Clone, Debug, PartialEq)]
pub struct Error {
    pub code: Code,
    /// What, which value, what to do.
    pub message: String,
    /// Configuration errors: the setting's key.
    pub key_path: String,
    /// 0: do not retry.
    pub retry_after_ns: u64,
    pub detail: String,
}

pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    pub fn new(code: Code, message: impl Into<String>) -> Error {
        Error { code, message: message.into(), key_path: String::new(), retry_after_ns: 0, detail: String::new() }
    }
    /// The operator sees file, line and column of this setting.
    pub fn key(mut self, key_path: impl Into<String>) -> Error {
        self.key_path = key_path.into();
        self
    }
    /// "context: message"
    pub fn because(mut self, context: impl std::fmt::Display) -> Error {
        self.message = format!("{}: {}", context, self.message);
        self
    }
    pub(crate) fn pack(&self) -> Vec<u8> {
        flat::Message::pack(&fb::ErrorT {
            message: self.message.clone(),
            key_path: self.key_path.clone(),
            retry_after_ns: self.retry_after_ns,
            detail: self.detail.clone(),
        })
    }
    pub(crate) fn unpack(code: i32, body: &[u8]) -> Error {
        let t = flat::read::<fb::Error<'_>>(body).map(|e| e.unpack()).unwrap_or_default();
        let message = if t.message.is_empty() { format!("code {}", code) } else { t.message };
        Error { code: Code(code), message, key_path: t.key_path, retry_after_ns: t.retry_after_ns, detail: t.detail }
    }
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}
impl std::error::Error for Error {}

impl From<std::io::Error> for Error {
    fn from(e: std::io::Error) -> Error {
        use std::io::ErrorKind::*;
        let code = match (e.raw_os_error(), e.kind()) {
            (Some(3), _) => Code::NOT_FOUND, // ESRCH: no such process
            (_, NotFound) => Code::NOT_FOUND,
            (_, PermissionDenied) => Code::PERMISSION_DENIED,
            (_, AlreadyExists) => Code::ALREADY_EXISTS,
            (_, InvalidInput | InvalidData) => Code::INVALID_ARGUMENT,
            (_, TimedOut) => Code::DEADLINE_EXCEEDED,
            (_, OutOfMemory) => Code::RESOURCE_EXHAUSTED,
            _ => Code::INTERNAL,
        };
        Error::new(code, e.to_string())
    }
}
