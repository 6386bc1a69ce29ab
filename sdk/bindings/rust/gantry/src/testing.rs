//! A host in memory for unit tests: manual clock, one thread, nothing runs until the test says so.
//!
//! ```ignore
//! let mut t = testing::Subject::<gantry::isolator::Kind, Nofile>::new();
//! t.configure(&[("limit", 64.into())]).unwrap();
//! let prepared = t.call(isolator::Method::PREPARE.0, &PrepareT { container_id: "c1".into(), ..Default::default() }).unwrap();
//! assert_eq!(t.faults(), Vec::<String>::new());
//! ```
//! Modules may complete from threads of their own; [`Subject::answer`] then waits for it.
use crate::error::{Error, Result};
use crate::module::{provider, Kind, Module};
use crate::{abi, fb, flat};
use std::collections::HashMap;
use std::os::raw::{c_char, c_void};
use std::sync::atomic::AtomicU32;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Duration;

/// A setting's value as a test writes it.
pub enum Value {
    Text(String),
    Number(i64),
    Real(f64),
    Flag(bool),
    List(Vec<String>),
}
impl From<&str> for Value {
    fn from(v: &str) -> Value {
        Value::Text(v.into())
    }
}
impl From<i64> for Value {
    fn from(v: i64) -> Value {
        Value::Number(v)
    }
}
impl From<f64> for Value {
    fn from(v: f64) -> Value {
        Value::Real(v)
    }
}
impl From<bool> for Value {
    fn from(v: bool) -> Value {
        Value::Flag(v)
    }
}
impl From<Duration> for Value {
    fn from(v: Duration) -> Value {
        // An int is read as a duration, too.
        Value::Number(v.as_nanos() as i64)
    }
}
impl From<Vec<String>> for Value {
    fn from(v: Vec<String>) -> Value {
        Value::List(v)
    }
}

#[derive(Default)]
struct Answer {
    chunks: Vec<Vec<u8>>,
    done: Option<(i32, Vec<u8>)>,
}

struct Job {
    at: u64,
    id: u64,
    run: abi::Callback,
    arg: usize,
}

/// A request of the module to a host service.
#[derive(Clone, Debug, PartialEq)]
pub struct Asked {
    pub service: u32,
    pub method: u32,
    pub body: Vec<u8>,
    pub token: u64,
}

#[derive(Default)]
struct State {
    answers: HashMap<u64, Answer>,
    jobs: Vec<Job>,
    asked: Vec<Asked>,
    cancelled: Vec<u64>,
    refuse: i32,
    logs: Vec<(u32, String)>,
    metrics: HashMap<String, (u32, f64)>,
    faults: Vec<String>,
    clock: u64,
    last: u64,
}

struct World {
    state: Mutex<State>,
    said: Condvar,
    threshold: AtomicU32,
}

impl World {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// One instance of module M, through the same thunks the kernel uses.
pub struct Subject<K, M> {
    world: Arc<World>,
    host: Box<abi::Host>,
    provider: abi::Provider,
    this: *mut c_void,
    of: std::marker::PhantomData<(K, M)>,
}

impl<K: Kind<M>, M: Module> Default for Subject<K, M> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K: Kind<M>, M: Module> Subject<K, M> {
    pub fn new() -> Self {
        let world = Arc::new(World { state: Mutex::new(State { clock: 1_000_000_000, ..State::default() }), said: Condvar::new(), threshold: AtomicU32::new(0) });
        let host = Box::new(abi::Host {
            size: std::mem::size_of::<abi::Host>() as u32,
            abi_minor: abi::MINOR as u32,
            ctx: Arc::as_ptr(&world) as *mut c_void,
            log_threshold: &world.threshold,
            log,
            complete,
            request,
            post,
            offload: post,
            timer,
            timer_cancel,
            metric,
            metric_add,
            now,
            wall: now,
            request_cancel,
            extension,
        });
        let provider = provider::<K, M>("test\0");
        // SAFETY: the host outlives the instance.
        let this = unsafe { (provider.create)(&*host) };
        assert!(!this.is_null(), "create() returned null");
        Subject { world, host, provider, this, of: std::marker::PhantomData }
    }

    /// Sends a call with these bytes and runs what it started; returns its token.
    pub fn send(&mut self, method: u32, body: &[u8]) -> u64 {
        self.send_with(method, body, &[])
    }
    pub fn send_with(&mut self, method: u32, body: &[u8], fds: &[i32]) -> u64 {
        let token = {
            let mut s = self.world.lock();
            s.last += 1;
            let token = s.last;
            s.answers.insert(token, Answer::default());
            token
        };
        let c = abi::Call {
            size: std::mem::size_of::<abi::Call>() as u32,
            method,
            token,
            deadline_ns: 0,
            body: abi::Bytes::of(body),
            fds: fds.as_ptr(),
            nfds: fds.len() as u32,
            reserved: 0,
            trace: [0; 16],
        };
        // SAFETY: the instance lives; body and descriptors live until run() is over. Tests of handlers that read them
        // later must keep to the owned copies the crate offers, which is all it offers.
        unsafe { (self.provider.call)(self.this, &c) };
        self.run();
        token
    }
    /// The final answer; waits up to 10 seconds for a thread of the module to give it.
    pub fn answer(&mut self, token: u64) -> Result<Vec<u8>> {
        let mut patience = 100;
        loop {
            self.run();
            let s = self.world.lock();
            match s.answers.get(&token).and_then(|a| a.done.clone()) {
                Some((0, body)) => return Ok(body),
                Some((code, body)) => return Err(Error::unpack(code, &body)),
                None => (),
            }
            assert!(patience > 0, "token {} is not answered", token);
            patience -= 1;
            drop(self.world.said.wait_timeout(s, Duration::from_millis(100)));
        }
    }
    /// Whether it was answered yet.
    pub fn answered(&self, token: u64) -> bool {
        self.world.lock().answers.get(&token).map_or(false, |a| a.done.is_some())
    }
    pub fn chunks(&self, token: u64) -> Vec<Vec<u8>> {
        self.world.lock().answers.get(&token).map_or_else(Vec::new, |a| a.chunks.clone())
    }
    /// Calls with a message and waits for the answer's bytes.
    pub fn call(&mut self, method: u32, message: &impl flat::Message) -> Result<Vec<u8>> {
        let token = self.send(method, &message.pack());
        self.answer(token)
    }
    pub fn cancel(&mut self, token: u64) {
        // SAFETY: the instance lives.
        unsafe { (self.provider.cancel)(self.this, token) };
        self.run();
    }

    pub fn configure(&mut self, settings: &[(&str, Value)]) -> Result<()> {
        self.configure_as(settings, false)
    }
    pub fn reload(&mut self, settings: &[(&str, Value)]) -> Result<()> {
        self.configure_as(settings, true)
    }
    fn configure_as(&mut self, settings: &[(&str, Value)], reload: bool) -> Result<()> {
        let mut c = fb::ConfigureT { reload, work_dir: ".".into(), revision: K::REVISION, ..Default::default() };
        for (key, value) in settings {
            let mut s = fb::SettingT { key: key.to_string(), given: true, ..Default::default() };
            match value {
                Value::Text(v) => s.text = v.clone(),
                Value::Number(v) => {
                    s.type_ = fb::SettingType::INT;
                    s.number = *v;
                    s.real = *v as f64;
                }
                Value::Real(v) => {
                    s.type_ = fb::SettingType::FLOAT;
                    s.real = *v;
                }
                Value::Flag(v) => {
                    s.type_ = fb::SettingType::BOOL;
                    s.flag = *v;
                }
                Value::List(v) => {
                    s.type_ = fb::SettingType::LIST;
                    s.items = v.clone();
                }
            }
            c.settings.push(s);
        }
        c.settings.sort_by(|a, b| a.key.cmp(&b.key));
        self.call(abi::METHOD_CONFIGURE, &c).map(|_| ())
    }
    pub fn start(&mut self) -> Result<()> {
        let token = self.send(abi::METHOD_START, &[]);
        self.answer(token).map(|_| ())
    }
    pub fn stop(&mut self) -> Result<()> {
        let token = self.send(abi::METHOD_STOP, &[]);
        self.answer(token).map(|_| ())
    }

    /// Runs what was posted, offloaded or is due.
    pub fn run(&mut self) {
        loop {
            let mut s = self.world.lock();
            let clock = s.clock;
            let due = s.jobs.iter().enumerate().filter(|(_, j)| j.at <= clock).min_by_key(|(_, j)| (j.at, j.id)).map(|(i, _)| i);
            let job = match due {
                Some(i) => s.jobs.remove(i),
                None => return,
            };
            drop(s);
            // SAFETY: as the module gave it, once.
            unsafe { (job.run)(job.arg as *mut c_void) };
        }
    }
    pub fn advance(&mut self, by: Duration) {
        self.world.lock().clock += by.as_nanos() as u64;
        self.run();
    }

    /// Requests to host services not taken yet.
    pub fn asked(&mut self) -> Vec<Asked> {
        std::mem::take(&mut self.world.lock().asked)
    }
    /// Tokens of requests the module has cancelled.
    pub fn cancelled_requests(&self) -> Vec<u64> {
        self.world.lock().cancelled.clone()
    }
    /// Requests are refused with this code from now on; 0: accepted.
    pub fn refuse_requests(&mut self, code: i32) {
        self.world.lock().refuse = code;
    }
    /// Replies to a request of the module.
    pub fn reply(&mut self, token: u64, code: i32, body: &[u8]) {
        // SAFETY: the instance lives; the body lives until the function returns.
        unsafe { (self.provider.reply)(self.this, token, code, abi::Bytes::of(body)) };
        self.run();
    }

    pub fn logs(&self) -> Vec<(u32, String)> {
        self.world.lock().logs.clone()
    }
    /// A metric's value.
    pub fn metric(&self, name: &str) -> Option<f64> {
        self.world.lock().metrics.get(name).map(|m| m.1)
    }
    /// Breaches of the ABI, one sentence each.
    pub fn faults(&self) -> Vec<String> {
        self.world.lock().faults.clone()
    }
    /// Ends the instance and returns all breaches, calls never answered among them.
    pub fn close(mut self) -> Vec<String> {
        self.destroy();
        self.faults()
    }
    fn destroy(&mut self) {
        if self.this.is_null() {
            return;
        }
        {
            let mut s = self.world.lock();
            let open: Vec<String> = s.answers.iter().filter(|(_, a)| a.done.is_none()).map(|(t, _)| format!("token {} was never completed", t)).collect();
            s.faults.extend(open);
        }
        // SAFETY: once, nothing of it is used afterwards; the host outlives it.
        unsafe { (self.provider.destroy)(self.this) };
        self.this = std::ptr::null_mut();
        debug_assert!(!self.host.ctx.is_null());
    }
}

impl<K, M> Drop for Subject<K, M> {
    fn drop(&mut self) {
        if !self.this.is_null() {
            // SAFETY: as in destroy.
            unsafe { (self.provider.destroy)(self.this) };
        }
    }
}

unsafe fn world<'a>(ctx: *mut c_void) -> &'a World {
    &*(ctx as *const World)
}

unsafe extern "C" fn log(ctx: *mut c_void, level: u32, record: abi::Bytes) {
    let mut s = world(ctx).lock();
    match flat::read::<fb::LogRecord<'_>>(record.slice()) {
        Some(r) => s.logs.push((level, r.message().to_string())),
        None => s.faults.push("malformed log record".into()),
    }
}
unsafe extern "C" fn complete(ctx: *mut c_void, token: u64, code: i32, reply: abi::Bytes) {
    let w = world(ctx);
    let mut s = w.lock();
    let body = reply.slice().to_vec();
    let fault = match s.answers.get_mut(&token) {
        None => Some(format!("completion of unknown token {}", token)),
        Some(a) if a.done.is_some() => Some(format!("token {} was completed twice", token)),
        Some(a) if code == abi::MORE => {
            a.chunks.push(body);
            None
        }
        Some(a) => {
            a.done = Some((code, body));
            None
        }
    };
    s.faults.extend(fault);
    w.said.notify_all();
}
unsafe extern "C" fn request(ctx: *mut c_void, service: u32, method: u32, body: abi::Bytes, token: u64) -> i32 {
    let mut s = world(ctx).lock();
    if s.refuse == 0 {
        s.asked.push(Asked { service, method, body: body.slice().to_vec(), token });
    }
    s.refuse
}
unsafe extern "C" fn post(ctx: *mut c_void, run: abi::Callback, arg: *mut c_void) {
    timer(ctx, 0, run, arg);
    world(ctx).said.notify_all();
}
unsafe extern "C" fn timer(ctx: *mut c_void, at: u64, run: abi::Callback, arg: *mut c_void) -> u64 {
    let mut s = world(ctx).lock();
    s.last += 1;
    let id = s.last;
    s.jobs.push(Job { at, id, run, arg: arg as usize });
    id
}
unsafe extern "C" fn timer_cancel(ctx: *mut c_void, id: u64) {
    world(ctx).lock().jobs.retain(|j| j.id != id);
}
unsafe extern "C" fn metric(ctx: *mut c_void, desc: abi::Bytes) -> u32 {
    let mut s = world(ctx).lock();
    match flat::read::<fb::MetricDesc<'_>>(desc.slice()) {
        Some(d) => {
            let next = s.metrics.len() as u32 + 1;
            s.metrics.entry(d.name().to_string()).or_insert((next, 0.0)).0
        }
        None => {
            s.faults.push("malformed metric".into());
            0
        }
    }
}
unsafe extern "C" fn metric_add(ctx: *mut c_void, id: u32, value: f64) {
    let mut s = world(ctx).lock();
    for m in s.metrics.values_mut().filter(|m| m.0 == id) {
        m.1 += value;
    }
}
unsafe extern "C" fn now(ctx: *mut c_void) -> u64 {
    world(ctx).lock().clock
}
unsafe extern "C" fn request_cancel(ctx: *mut c_void, token: u64) {
    world(ctx).lock().cancelled.push(token);
}
unsafe extern "C" fn extension(_: *mut c_void, _: *const c_char) -> *const c_void {
    std::ptr::null()
}
