//! What the kernel gives an instance: logs, metrics, clock, timers, blocking work, host services.
use crate::error::{Code, Error, Result};
use crate::flat::Message;
use crate::line::{Level, Line, Metric, MetricKind};
use crate::module::{panic_text, Module};
use crate::{abi, fb};
use std::collections::HashMap;
use std::os::raw::c_void;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::atomic::{AtomicPtr, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::Duration;

type Work<M> = Box<dyn FnOnce(&mut M) + Send>;
type Answer<M> = Box<dyn FnMut(&mut M, Result<Option<&[u8]>>) + Send>;

/// One instance as its handles see it.
pub(crate) struct Shared<M> {
    pub(crate) line: Arc<Line>,
    /// The module, null before `new` has returned and once it is destroyed. Only the strand looks behind it.
    pub(crate) module: AtomicPtr<M>,
    numbers: AtomicU64,
    timers: Mutex<HashMap<u64, Pending<M>>>, // by our number
    requests: Mutex<HashMap<u64, Answer<M>>>,
}

struct Pending<M> {
    id: u64,    // the host's; 0 while it is being registered
    job: usize, // *mut Timed<M>, which the host holds
    work: Work<M>,
}

fn lock<T>(m: &Mutex<T>) -> MutexGuard<'_, T> {
    m.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

impl<M: Module> Shared<M> {
    pub(crate) fn new(line: Line) -> Arc<Self> {
        Arc::new(Shared {
            line: Arc::new(line),
            module: AtomicPtr::new(std::ptr::null_mut()),
            numbers: AtomicU64::new(0),
            timers: Mutex::new(HashMap::new()),
            requests: Mutex::new(HashMap::new()),
        })
    }
    fn number(&self) -> u64 {
        self.numbers.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Runs f on the module. Only ever called on the strand; a panic is logged and goes no further.
    pub(crate) fn enter(&self, f: impl FnOnce(&mut M)) {
        // SAFETY: the strand is entered once at a time, so nobody else has this reference; `leave` sets it to null first.
        if let Some(module) = unsafe { self.module.load(Ordering::Acquire).as_mut() } {
            if let Err(panic) = catch_unwind(AssertUnwindSafe(|| f(module))) {
                self.line.log(Level::Error, &format!("panic: {}", panic_text(&*panic)), &[]);
            }
        }
    }

    /// A reply of the host to a request of ours.
    pub(crate) fn replied(&self, token: u64, code: i32, body: &[u8]) {
        // Taken out while it runs: it may start or cancel requests.
        let taken = lock(&self.requests).remove(&token);
        if let Some(mut answer) = taken {
            self.enter(|m| match code {
                abi::MORE => answer(m, Ok(Some(body))),
                abi::OK => {
                    if !body.is_empty() {
                        answer(m, Ok(Some(body)));
                    }
                    answer(m, Ok(None))
                }
                _ => answer(m, Err(Error::unpack(code, body))),
            });
            if code == abi::MORE {
                lock(&self.requests).insert(token, answer);
            }
        }
    }

    /// Forgets everything that would call back; what it held is dropped while the line still stands.
    pub(crate) fn close(&self) {
        let timers = std::mem::take(&mut *lock(&self.timers));
        for t in timers.values().filter(|t| t.id != 0) {
            // SAFETY: on the strand, as destroy is: the callback does not run any more, so its box is ours again.
            unsafe {
                self.line.with(|h| (h.timer_cancel)(h.ctx, t.id));
                drop(Box::from_raw(t.job as *mut Timed<M>));
            }
        }
        drop(timers);
        let requests = std::mem::take(&mut *lock(&self.requests));
        drop(requests);
    }
}

/// The handle of an instance to its host. Cheap to clone; may be used from any thread, also after the instance is gone:
/// then it does nothing. Closures given to it run on the strand with the module at hand.
pub struct Host<M: Module>(pub(crate) Arc<Shared<M>>);

impl<M: Module> Clone for Host<M> {
    fn clone(&self) -> Self {
        Host(self.0.clone())
    }
}

/// Of a timer, to cancel it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Timer(u64);

impl<M: Module> Host<M> {
    // ---- logs and metrics

    /// Whether a record of this level is wanted; skip building costly ones.
    pub fn logs(&self, level: Level) -> bool {
        self.0.line.logs(level)
    }
    pub fn log(&self, level: Level, message: &str, fields: &[(&str, &str)]) {
        self.0.line.log(level, message, fields);
    }
    pub fn debug(&self, message: &str) {
        self.log(Level::Debug, message, &[]);
    }
    pub fn info(&self, message: &str) {
        self.log(Level::Info, message, &[]);
    }
    pub fn warning(&self, message: &str) {
        self.log(Level::Warning, message, &[]);
    }
    pub fn error(&self, message: &str) {
        self.log(Level::Error, message, &[]);
    }
    /// Registers a metric; the same name gives the same metric.
    pub fn metric(&self, kind: MetricKind, name: &str, unit: &str, help: &str) -> Metric {
        let desc = fb::MetricDescT { name: name.into(), kind, unit: unit.into(), help: help.into() }.pack();
        // SAFETY: the bytes live until the function returns.
        Metric(self.0.line.with(|h| unsafe { (h.metric)(h.ctx, abi::Bytes::of(&desc)) }).unwrap_or(0))
    }
    pub fn add(&self, metric: Metric, value: f64) {
        // SAFETY: plain values.
        self.0.line.with(|h| unsafe { (h.metric_add)(h.ctx, metric.0, value) });
    }

    // ---- clock

    /// Monotonic, for durations; stands still in tests.
    pub fn now(&self) -> Duration {
        // SAFETY: no arguments.
        Duration::from_nanos(self.0.line.with(|h| unsafe { (h.now)(h.ctx) }).unwrap_or(0))
    }
    /// Since 1970; may jump. For people, never for durations.
    pub fn wall(&self) -> Duration {
        // SAFETY: no arguments.
        Duration::from_nanos(self.0.line.with(|h| unsafe { (h.wall)(h.ctx) }).unwrap_or(0))
    }

    // ---- the strand

    /// Runs f on the strand, later.
    pub fn post(&self, f: impl FnOnce(&mut M) + Send + 'static) {
        let job = Box::into_raw(Box::new(Posted { shared: Arc::downgrade(&self.0), work: Box::new(f) as Work<M> }));
        // SAFETY: the host runs it at most once, which takes the box back.
        if self.0.line.with(|h| unsafe { (h.post)(h.ctx, run_posted::<M>, job as *mut c_void) }).is_none() {
            // SAFETY: never handed over.
            drop(unsafe { Box::from_raw(job) });
        }
    }

    /// Runs `work` on the host's pool, where it may block, then `then` on the strand with its result; a panic in `work` is an
    /// INTERNAL error.
    pub fn offload<R: Send + 'static>(&self, work: impl FnOnce() -> R + Send + 'static, then: impl FnOnce(&mut M, Result<R>) + Send + 'static) {
        let host = self.clone();
        let job: Box<dyn FnOnce() + Send> = Box::new(move || {
            let result = catch_unwind(AssertUnwindSafe(work)).map_err(|p| Error::new(Code::INTERNAL, format!("panic: {}", panic_text(&*p))));
            host.post(move |m| then(m, result));
        });
        let job = Box::into_raw(Box::new(job));
        // SAFETY: as in post.
        if self.0.line.with(|h| unsafe { (h.offload)(h.ctx, run_offloaded, job as *mut c_void) }).is_none() {
            drop(unsafe { Box::from_raw(job) });
        }
    }

    /// Runs f on the strand once `after` has passed.
    pub fn timer(&self, after: Duration, f: impl FnOnce(&mut M) + Send + 'static) -> Timer {
        let number = self.0.number();
        let job = Box::into_raw(Box::new(Timed { shared: Arc::downgrade(&self.0), number }));
        lock(&self.0.timers).insert(number, Pending { id: 0, job: job as usize, work: Box::new(f) });
        let at = (self.now() + after).as_nanos().min(u64::MAX as u128) as u64;
        // SAFETY: as in post.
        match self.0.line.with(|h| unsafe { (h.timer)(h.ctx, at, run_timed::<M>, job as *mut c_void) }) {
            Some(id) => {
                if let Some(t) = lock(&self.0.timers).get_mut(&number) {
                    t.id = id;
                }
            }
            None => {
                lock(&self.0.timers).remove(&number);
                // SAFETY: never handed over.
                drop(unsafe { Box::from_raw(job) });
            }
        }
        Timer(number)
    }
    /// Afterwards f does not start any more. Its few bytes at the host stay until its time comes or the instance ends.
    pub fn cancel_timer(&self, timer: Timer) {
        let gone = lock(&self.0.timers).remove(&timer.0);
        drop(gone);
    }

    // ---- host services

    /// Calls a host service (`fb::host`, services named in the manifest). `answer` runs on the strand: `Ok(Some(bytes))` for
    /// each message, then once `Ok(None)` or an error. Returns a number for [`Host::cancel_request`].
    pub fn request(&self, service: fb::host::Service, method: u32, body: &[u8], answer: impl FnMut(&mut M, Result<Option<&[u8]>>) + Send + 'static) -> u64 {
        let token = self.0.number();
        lock(&self.0.requests).insert(token, Box::new(answer));
        // SAFETY: the body lives until the function returns.
        let code = self.0.line.with(|h| unsafe { (h.request)(h.ctx, service.0, method, abi::Bytes::of(body), token) });
        match code {
            Some(abi::OK) | None => (),
            Some(refused) => {
                let host = self.clone();
                self.post(move |m| {
                    let taken = lock(&host.0.requests).remove(&token);
                    if let Some(mut answer) = taken {
                        answer(m, Err(Error::unpack(refused, &[])));
                    }
                })
            }
        }
        token
    }
    /// Its answer still comes, usually CANCELLED.
    pub fn cancel_request(&self, token: u64) {
        if lock(&self.0.requests).contains_key(&token) {
            // SAFETY: plain values.
            self.0.line.with(|h| unsafe { (h.request_cancel)(h.ctx, token) });
        }
    }
}

struct Posted<M> {
    shared: Weak<Shared<M>>,
    work: Work<M>,
}
struct Timed<M> {
    shared: Weak<Shared<M>>,
    number: u64,
}

unsafe extern "C" fn run_posted<M: Module>(arg: *mut c_void) {
    let job = Box::from_raw(arg as *mut Posted<M>);
    if let Some(shared) = job.shared.upgrade() {
        shared.enter(job.work);
    }
}
unsafe extern "C" fn run_offloaded(arg: *mut c_void) {
    let job = Box::from_raw(arg as *mut Box<dyn FnOnce() + Send>);
    // What the job does is guarded inside; this is for the destructors of what it captured.
    let _ = catch_unwind(AssertUnwindSafe(move || job()));
}
unsafe extern "C" fn run_timed<M: Module>(arg: *mut c_void) {
    let job = Box::from_raw(arg as *mut Timed<M>);
    if let Some(shared) = job.shared.upgrade() {
        let due = lock(&shared.timers).remove(&job.number);
        if let Some(due) = due {
            shared.enter(due.work);
        }
    }
}
