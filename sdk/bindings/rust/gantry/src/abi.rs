//! The envelope, `gantry/abi.h`, member by member. [`layout`] tells sizes and offsets, which a test compares with the header.
use std::os::raw::{c_char, c_void};
use std::sync::atomic::AtomicU32;

pub const MAJOR: u16 = 1;
pub const MINOR: u16 = 0;
/// For people and bug reports; ends with a zero.
pub const BUILD: &str = concat!("Rust, crate gantry ", env!("CARGO_PKG_VERSION"), "\0");

macro_rules! mirror {
    ($($(#[$meta:meta])* $name:ident = $c:literal { $($member:ident: $type:ty,)* })*) => {
        $(
            $(#[$meta])*
            #[repr(C)]
            #[derive(Clone, Copy)]
            pub struct $name { $(pub $member: $type,)* }
        )*

        /// One line a struct ("gantry_call 72") and a member ("gantry_call.token 8 8": offset, size).
        pub fn layout() -> String {
            use std::fmt::Write;
            let mut out = String::new();
            $(
                let _ = writeln!(out, "{} {}", $c, std::mem::size_of::<$name>());
                let place = std::mem::MaybeUninit::<$name>::uninit();
                let start = place.as_ptr();
                $(
                    // SAFETY: only addresses are computed, nothing is read.
                    let at = unsafe { std::ptr::addr_of!((*start).$member) };
                    let _ = writeln!(out, "{}.{} {} {}", $c, stringify!($member), at as usize - start as usize, std::mem::size_of::<$type>());
                )*
            )*
            out
        }
    };
}

pub type Callback = unsafe extern "C" fn(*mut c_void);

mirror! {
    Bytes = "gantry_bytes" {
        data: *const u8,
        len: usize,
    }
    Call = "gantry_call" {
        size: u32,
        method: u32,
        token: u64,
        deadline_ns: u64,
        body: Bytes,
        fds: *const i32,
        nfds: u32,
        reserved: u32,
        trace: [u8; 16],
    }
    /// What the host gives one instance. All functions may be called from any thread.
    Host = "gantry_host" {
        size: u32,
        abi_minor: u32,
        ctx: *mut c_void,
        log_threshold: *const AtomicU32,
        log: unsafe extern "C" fn(*mut c_void, u32, Bytes),
        complete: unsafe extern "C" fn(*mut c_void, u64, i32, Bytes),
        request: unsafe extern "C" fn(*mut c_void, u32, u32, Bytes, u64) -> i32,
        post: unsafe extern "C" fn(*mut c_void, Callback, *mut c_void),
        offload: unsafe extern "C" fn(*mut c_void, Callback, *mut c_void),
        timer: unsafe extern "C" fn(*mut c_void, u64, Callback, *mut c_void) -> u64,
        timer_cancel: unsafe extern "C" fn(*mut c_void, u64),
        metric: unsafe extern "C" fn(*mut c_void, Bytes) -> u32,
        metric_add: unsafe extern "C" fn(*mut c_void, u32, f64),
        now: unsafe extern "C" fn(*mut c_void) -> u64,
        wall: unsafe extern "C" fn(*mut c_void) -> u64,
        request_cancel: unsafe extern "C" fn(*mut c_void, u64),
        extension: unsafe extern "C" fn(*mut c_void, *const c_char) -> *const c_void,
    }
    Provider = "gantry_provider" {
        size: u32,
        flags: u32,
        kind: *const c_char,
        name: *const c_char,
        rev_min: u16,
        rev_max: u16,
        reserved: u32,
        create: unsafe extern "C" fn(*const Host) -> *mut c_void,
        call: unsafe extern "C" fn(*mut c_void, *const Call),
        reply: unsafe extern "C" fn(*mut c_void, u64, i32, Bytes),
        cancel: unsafe extern "C" fn(*mut c_void, u64),
        destroy: unsafe extern "C" fn(*mut c_void),
        extension: unsafe extern "C" fn(*mut c_void, *const c_char) -> *const c_void,
    }
    Module = "gantry_module" {
        magic: [u8; 8],
        abi_major: u16,
        abi_minor: u16,
        size: u32,
        provider_count: u32,
        provider_stride: u32,
        providers: *const Provider,
        build: *const c_char,
    }
}

// SAFETY: constant data; the pointers lead to constants.
unsafe impl Sync for Provider {}
unsafe impl Sync for Module {}

impl Bytes {
    pub fn of(bytes: &[u8]) -> Bytes {
        Bytes { data: bytes.as_ptr(), len: bytes.len() }
    }
    /// # Safety
    /// `data` must be valid for `len` bytes as long as 'a.
    pub unsafe fn slice<'a>(self) -> &'a [u8] {
        if self.data.is_null() || self.len == 0 {
            &[]
        } else {
            std::slice::from_raw_parts(self.data, self.len)
        }
    }
}

macro_rules! constants {
    ($($name:ident = $c:literal: $type:ty = $value:expr;)*) => {
        $(pub const $name: $type = $value;)*
        /// One line a constant: "GANTRY_OK 0".
        pub fn constants() -> String {
            use std::fmt::Write;
            let mut out = String::new();
            $(let _ = writeln!(out, "{} {}", $c, $name as i64);)*
            out
        }
    };
}

constants! {
    ABI_MAJOR = "GANTRY_ABI_MAJOR": u16 = MAJOR;
    ABI_MINOR = "GANTRY_ABI_MINOR": u16 = MINOR;
    NOTE_MANIFEST = "GANTRY_NOTE_MANIFEST": u32 = 1;
    OK = "GANTRY_OK": i32 = 0;
    MORE = "GANTRY_MORE": i32 = 1;
    CANCELLED = "GANTRY_CANCELLED": i32 = -1;
    UNKNOWN = "GANTRY_UNKNOWN": i32 = -2;
    INVALID_ARGUMENT = "GANTRY_INVALID_ARGUMENT": i32 = -3;
    DEADLINE_EXCEEDED = "GANTRY_DEADLINE_EXCEEDED": i32 = -4;
    NOT_FOUND = "GANTRY_NOT_FOUND": i32 = -5;
    ALREADY_EXISTS = "GANTRY_ALREADY_EXISTS": i32 = -6;
    PERMISSION_DENIED = "GANTRY_PERMISSION_DENIED": i32 = -7;
    RESOURCE_EXHAUSTED = "GANTRY_RESOURCE_EXHAUSTED": i32 = -8;
    FAILED_PRECONDITION = "GANTRY_FAILED_PRECONDITION": i32 = -9;
    ABORTED = "GANTRY_ABORTED": i32 = -10;
    OUT_OF_RANGE = "GANTRY_OUT_OF_RANGE": i32 = -11;
    UNIMPLEMENTED = "GANTRY_UNIMPLEMENTED": i32 = -12;
    INTERNAL = "GANTRY_INTERNAL": i32 = -13;
    UNAVAILABLE = "GANTRY_UNAVAILABLE": i32 = -14;
    DATA_LOSS = "GANTRY_DATA_LOSS": i32 = -15;
    UNAUTHENTICATED = "GANTRY_UNAUTHENTICATED": i32 = -16;
    LOG_DEBUG = "GANTRY_LOG_DEBUG": u32 = 0;
    LOG_INFO = "GANTRY_LOG_INFO": u32 = 1;
    LOG_WARNING = "GANTRY_LOG_WARNING": u32 = 2;
    LOG_ERROR = "GANTRY_LOG_ERROR": u32 = 3;
    METHOD_CONFIGURE = "GANTRY_METHOD_CONFIGURE": u32 = 0;
    METHOD_START = "GANTRY_METHOD_START": u32 = 1;
    METHOD_STOP = "GANTRY_METHOD_STOP": u32 = 2;
    METHOD_HEALTH = "GANTRY_METHOD_HEALTH": u32 = 3;
    METHOD_RECOVER = "GANTRY_METHOD_RECOVER": u32 = 4;
    METHOD_CREDIT = "GANTRY_METHOD_CREDIT": u32 = 5;
    CONCURRENT = "GANTRY_CONCURRENT": u32 = 1;
    BLOCKING = "GANTRY_BLOCKING": u32 = 2;
    NEEDS_PROCESS = "GANTRY_NEEDS_PROCESS": u32 = 4;
    NEVER_PROCESS = "GANTRY_NEVER_PROCESS": u32 = 8;
}
