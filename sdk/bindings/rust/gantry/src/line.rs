//! The line to the host, shared by everything that may speak to it, from any thread: it goes dead when the instance is
//! destroyed, so a completer or handle that outlives it does nothing instead of touching freed memory.
use crate::flat::Message;
use crate::{abi, fb};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::RwLock;

pub(crate) struct Line(RwLock<Raw>);

#[derive(Clone, Copy)]
struct Raw(*const abi::Host);
// SAFETY: all functions of gantry_host may be called from any thread (abi.h, rule 4).
unsafe impl Send for Raw {}
unsafe impl Sync for Raw {}

/// Log levels.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Level {
    Debug = 0,
    Info = 1,
    Warning = 2,
    Error = 3,
}

/// A registered metric.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Metric(pub(crate) u32);

pub type MetricKind = fb::MetricKind;

impl Line {
    /// # Safety
    /// `host` must live until `cut`.
    pub(crate) unsafe fn new(host: *const abi::Host) -> Line {
        Line(RwLock::new(Raw(host)))
    }

    /// Nothing passes any more once this has returned.
    pub(crate) fn cut(&self) {
        match self.0.write() {
            Ok(mut raw) => raw.0 = std::ptr::null(),
            Err(mut poisoned) => poisoned.get_mut().0 = std::ptr::null(),
        }
    }

    /// Runs f with the host, or not at all. The host never enters a module from inside a host function, so the lock is not
    /// taken twice by a thread.
    pub(crate) fn with<R>(&self, f: impl FnOnce(&abi::Host) -> R) -> Option<R> {
        let raw = match self.0.read() {
            Ok(raw) => raw,
            Err(poisoned) => poisoned.into_inner(),
        };
        // SAFETY: not null, so not cut: the host lives at least as long as the lock is held.
        unsafe { raw.0.as_ref() }.map(f)
    }

    pub(crate) fn complete(&self, token: u64, code: i32, body: &[u8]) {
        // SAFETY: the body lives until the function returns, as the ABI asks.
        self.with(|h| unsafe { (h.complete)(h.ctx, token, code, abi::Bytes::of(body)) });
    }

    pub(crate) fn logs(&self, level: Level) -> bool {
        // SAFETY: the threshold lives as long as the host.
        self.with(|h| unsafe { threshold(h) } <= level as u32).unwrap_or(false)
    }

    pub(crate) fn log(&self, level: Level, message: &str, fields: &[(&str, &str)]) {
        if !self.logs(level) {
            return;
        }
        let field = |(key, value): &(&str, &str)| fb::LogFieldT { key: key.to_string(), value: value.to_string() };
        let record = fb::LogRecordT { message: message.to_string(), fields: fields.iter().map(field).collect(), ..Default::default() };
        let bytes = record.pack();
        // SAFETY: as in complete.
        self.with(|h| unsafe { (h.log)(h.ctx, level as u32, abi::Bytes::of(&bytes)) });
    }
}

unsafe fn threshold(h: &abi::Host) -> u32 {
    let t: *const AtomicU32 = h.log_threshold;
    t.as_ref().map_or(0, |t| t.load(Ordering::Relaxed))
}
