//! The base of every module, and the thunks that carry calls to it. No thunk lets a panic out.
use crate::call::{Call, RawCall, Reply, Token};
use crate::error::{Code, Error, Result};
use crate::host::{Host, Shared};
use crate::line::{Level, Line};
use crate::{abi, fb};
use std::any::Any;
use std::cell::Cell;
use std::os::raw::{c_char, c_void};
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::atomic::Ordering;
use std::sync::Arc;

/// Life: new -> configure -> start -> recover (if the kind has it) -> calls -> stop -> drop, all on the strand.
pub trait Module: Sized + Send + 'static {
    /// Cheap, without I/O: the kernel may create an instance only to ask it something.
    fn new(host: Host<Self>) -> Self;
    /// Settings are validated against the manifest and complete. Refuse what only this module can judge with
    /// INVALID_ARGUMENT and the setting's key. Comes again on reload.
    fn configure(&mut self, _settings: Settings<'_>, _call: &mut Call<'_, ()>) -> Reply<()> {
        Reply::Now(Ok(()))
    }
    fn start(&mut self, _call: &mut Call<'_, ()>) -> Reply<()> {
        Reply::Now(Ok(()))
    }
    /// Drain: finish or give up what runs, finish streams, then answer.
    fn stop(&mut self, _call: &mut Call<'_, ()>) -> Reply<()> {
        Reply::Now(Ok(()))
    }
    fn health(&mut self) -> fb::HealthT {
        fb::HealthT::default()
    }
    /// The host no longer wants the call with this token; answer it soon.
    fn cancelled(&mut self, _token: u64) {}
}

/// A kind, as the thunks need it; each kind's module of this crate has one.
pub trait Kind<M: Module> {
    /// Ends with a zero.
    const NAME: &'static str;
    const REVISION: u16;
    fn dispatch(module: &mut M, call: RawCall<'_>);
}

/// Settings handed to `configure`; a missing key reads as zero, empty or false, and is a mistake in the manifest. Reading one
/// as another type than it came with gives the same, and a `configure` that answers at once is then answered with
/// INVALID_ARGUMENT naming it, whatever it says.
#[derive(Clone, Copy)]
pub struct Settings<'a> {
    message: fb::Configure<'a>,
    wrong: &'a Cell<Option<String>>, // key read as a type it has not
}

impl<'a> Settings<'a> {
    pub fn find(self, key: &str) -> Option<fb::Setting<'a>> {
        self.message.settings().iter().find(|s| s.key() == key)
    }
    fn typed(self, key: &str, types: &[fb::SettingType]) -> Option<fb::Setting<'a>> {
        let found = self.find(key)?;
        if types.contains(&found.type_()) {
            return Some(found);
        }
        let first = self.wrong.take().unwrap_or_else(|| key.to_string());
        self.wrong.set(Some(first));
        None
    }
    /// Whether the operator gave it, rather than the default.
    pub fn given(self, key: &str) -> bool {
        self.find(key).map_or(false, |s| s.given())
    }
    /// int, duration (nanoseconds) and size (bytes)
    pub fn number(self, key: &str) -> i64 {
        self.typed(key, &[fb::SettingType::INT, fb::SettingType::SIZE, fb::SettingType::DURATION]).map_or(0, |s| s.number())
    }
    pub fn real(self, key: &str) -> f64 {
        self.typed(key, &[fb::SettingType::FLOAT, fb::SettingType::INT]).map_or(0.0, |s| s.real())
    }
    pub fn flag(self, key: &str) -> bool {
        self.typed(key, &[fb::SettingType::BOOL]).map_or(false, |s| s.flag())
    }
    pub fn text(self, key: &str) -> &'a str {
        self.typed(key, &[fb::SettingType::STRING]).map_or("", |s| s.text())
    }
    pub fn duration(self, key: &str) -> std::time::Duration {
        let ns = self.typed(key, &[fb::SettingType::DURATION, fb::SettingType::INT]).map_or(0, |s| s.number());
        std::time::Duration::from_nanos(ns.max(0) as u64)
    }
    /// A list; a map as "key=value".
    pub fn list(self, key: &str) -> Vec<&'a str> {
        self.typed(key, &[fb::SettingType::LIST, fb::SettingType::MAP]).map_or_else(Vec::new, |s| s.items().iter().collect())
    }
    /// Same instance, only reloadable settings differ.
    pub fn reload(self) -> bool {
        self.message.reload()
    }
    /// A directory of this instance's own, created for it.
    pub fn work_dir(self) -> &'a str {
        self.message.work_dir()
    }
    pub fn roles(self) -> Vec<&'a str> {
        self.message.roles().iter().collect()
    }
    /// The message itself.
    pub fn message(self) -> fb::Configure<'a> {
        self.message
    }
}

fn configure<M: Module>(module: &mut M, message: fb::Configure<'_>, call: &mut Call<'_, ()>) -> Reply<()> {
    let wrong = Cell::new(None);
    let reply = module.configure(Settings { message, wrong: &wrong }, call);
    match (reply, wrong.take()) {
        (Reply::Now(_), Some(key)) => Error::new(Code::INVALID_ARGUMENT, format!("setting {} has another type than this module reads", key)).key(key).into(),
        (reply, _) => reply,
    }
}

/// The manifest as ELF note; see `export_module!`.
#[repr(C, align(4))]
pub struct Note<const N: usize> {
    name_size: u32,
    manifest_size: u32,
    kind: u32,
    name: [u8; 8],
    manifest: [u8; N],
}

impl<const N: usize> Note<N> {
    pub const fn new(manifest: [u8; N]) -> Self {
        Note { name_size: 7, manifest_size: N as u32, kind: abi::NOTE_MANIFEST, name: *b"Gantry\0\0", manifest }
    }
}

pub(crate) fn panic_text(panic: &(dyn Any + Send)) -> &str {
    match (panic.downcast_ref::<&str>(), panic.downcast_ref::<String>()) {
        (Some(s), _) => s,
        (_, Some(s)) => s,
        _ => "of an unknown type",
    }
}

/// The provider record of module M of kind K; `name` ends with a zero.
pub const fn provider<K: Kind<M>, M: Module>(name: &'static str) -> abi::Provider {
    abi::Provider {
        size: std::mem::size_of::<abi::Provider>() as u32,
        flags: 0,
        kind: K::NAME.as_ptr() as *const c_char,
        name: name.as_ptr() as *const c_char,
        rev_min: K::REVISION,
        rev_max: K::REVISION,
        reserved: 0,
        create: create::<M>,
        call: call::<K, M>,
        reply: reply::<M>,
        cancel: cancel::<M>,
        destroy: destroy::<M>,
        extension,
    }
}

struct Instance<M: Module> {
    shared: Arc<Shared<M>>,
    module: *mut M,
}

unsafe extern "C" fn create<M: Module>(host: *const abi::Host) -> *mut c_void {
    let shared = Shared::<M>::new(Line::new(host));
    let made = catch_unwind(AssertUnwindSafe(|| Box::into_raw(Box::new(M::new(Host(shared.clone()))))));
    match made {
        Ok(module) => {
            shared.module.store(module, Ordering::Release);
            Box::into_raw(Box::new(Instance { shared, module })) as *mut c_void
        }
        Err(panic) => {
            shared.line.log(Level::Error, &format!("panic in new: {}", panic_text(&*panic)), &[]);
            shared.line.cut();
            std::ptr::null_mut()
        }
    }
}

unsafe extern "C" fn call<K: Kind<M>, M: Module>(this: *mut c_void, c: *const abi::Call) {
    let instance = &*(this as *const Instance<M>);
    let c = &*c;
    let line = &instance.shared.line;
    let open = Cell::new(Some(Token::new(line.clone(), c.token)));
    let entered = catch_unwind(AssertUnwindSafe(|| {
        let fds = if c.nfds == 0 { &[] } else { std::slice::from_raw_parts(c.fds, c.nfds as usize) };
        let raw = RawCall { method: c.method, body: c.body.slice(), deadline_ns: c.deadline_ns, trace: c.trace, fds, token: c.token, line, open: &open };
        // SAFETY: on the strand, which is entered once at a time.
        let module = &mut *instance.module;
        match c.method {
            abi::METHOD_CONFIGURE => raw.answer::<fb::Configure<'_>, _>(|message, call| configure(module, message, call)),
            abi::METHOD_START => raw.answer_raw(|call| module.start(call)),
            abi::METHOD_STOP => raw.answer_raw(|call| module.stop(call)),
            abi::METHOD_HEALTH => raw.answer_raw(|_| Reply::Now(Ok(module.health()))),
            _ => K::dispatch(module, raw),
        }
    }));
    if let Err(panic) = entered {
        let text = format!("panic in method {}: {}", c.method, panic_text(&*panic));
        line.log(Level::Error, &text, &[]);
        if let Some(token) = open.take() {
            token.fail(Code::INTERNAL, text);
        }
    }
}

unsafe extern "C" fn reply<M: Module>(this: *mut c_void, token: u64, code: i32, body: abi::Bytes) {
    let instance = &*(this as *const Instance<M>);
    // enter() guards the handler; this is for the destructors of what it captured.
    let _ = catch_unwind(AssertUnwindSafe(|| instance.shared.replied(token, code, body.slice())));
}

unsafe extern "C" fn cancel<M: Module>(this: *mut c_void, token: u64) {
    let instance = &*(this as *const Instance<M>);
    instance.shared.enter(|m| m.cancelled(token));
}

unsafe extern "C" fn destroy<M: Module>(this: *mut c_void) {
    let instance = Box::from_raw(this as *mut Instance<M>);
    instance.shared.module.store(std::ptr::null_mut(), Ordering::Release);
    let module = instance.module;
    let shared = &instance.shared;
    let _ = catch_unwind(AssertUnwindSafe(|| shared.close()));
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| drop(Box::from_raw(module)))) {
        shared.line.log(Level::Error, &format!("panic in drop: {}", panic_text(&*panic)), &[]);
    }
    // Once more: a destructor may have asked for something.
    let _ = catch_unwind(AssertUnwindSafe(|| shared.close()));
    shared.line.cut();
}

unsafe extern "C" fn extension(_: *mut c_void, _: *const c_char) -> *const c_void {
    std::ptr::null()
}

/// For handlers that only refuse.
impl<T> From<Error> for Reply<T> {
    fn from(e: Error) -> Self {
        Reply::Now(Result::Err(e))
    }
}
