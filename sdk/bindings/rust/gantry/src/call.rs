//! The obligation to answer a call: kept by type, met exactly once.
use crate::error::{Code, Error, Result};
use crate::flat;
use crate::line::{Level, Line};
use std::cell::Cell;
use std::marker::PhantomData;
use std::os::unix::io::{BorrowedFd, RawFd};
use std::sync::Arc;

/// What a handler returns: the answer, or the word that a completer it keeps will give it.
pub enum Reply<T> {
    Now(Result<T>),
    /// The handler has taken [`Call::later`].
    Later,
}

impl<T> From<Result<T>> for Reply<T> {
    fn from(r: Result<T>) -> Self {
        Reply::Now(r)
    }
}

/// Runs a handler that answers at once, so that `?` may be used in it.
pub fn now<T>(f: impl FnOnce() -> Result<T>) -> Reply<T> {
    Reply::Now(f())
}

/// What may be sent as an answer: an owned message, nothing, or bytes as they are.
pub trait Payload {
    fn payload(&self) -> Vec<u8>;
}
impl<T: flat::Message> Payload for T {
    fn payload(&self) -> Vec<u8> {
        self.pack()
    }
}
impl Payload for () {
    fn payload(&self) -> Vec<u8> {
        Vec::new()
    }
}
impl Payload for Vec<u8> {
    fn payload(&self) -> Vec<u8> {
        self.clone()
    }
}

/// One token. Dropped unanswered it completes with CANCELLED, or INTERNAL if a panic dropped it.
pub(crate) struct Token {
    line: Arc<Line>,
    token: u64,
    open: bool,
}

impl Token {
    pub(crate) fn new(line: Arc<Line>, token: u64) -> Token {
        Token { line, token, open: true }
    }
    pub(crate) fn complete(mut self, result: Result<Vec<u8>>) {
        self.open = false;
        match result {
            Ok(body) => self.line.complete(self.token, 0, &body),
            Err(e) => self.line.complete(self.token, if e.code.0 < 0 { e.code.0 } else { Code::UNKNOWN.0 }, &e.pack()),
        }
    }
    pub(crate) fn fail(self, code: Code, message: impl Into<String>) {
        self.complete(Err(Error::new(code, message)))
    }
}

impl Drop for Token {
    fn drop(&mut self) {
        if self.open {
            let e = if std::thread::panicking() {
                Error::new(Code::INTERNAL, "the module panicked")
            } else {
                Error::new(Code::CANCELLED, "dropped by the module")
            };
            self.line.complete(self.token, e.code.0, &e.pack());
        }
    }
}

/// A call whose message is not read yet.
pub struct RawCall<'a> {
    pub method: u32,
    pub body: &'a [u8],
    /// CLOCK_MONOTONIC; 0 = none.
    pub deadline_ns: u64,
    pub trace: [u8; 16],
    pub(crate) fds: &'a [RawFd],
    pub(crate) token: u64,
    pub(crate) line: &'a Arc<Line>,
    /// Lies outside of what may panic, so that the guard can still answer.
    pub(crate) open: &'a Cell<Option<Token>>,
}

impl<'a> RawCall<'a> {
    fn fail(self, code: Code, message: impl Into<String>) {
        if let Some(token) = self.open.take() {
            token.fail(code, message);
        }
    }
    pub fn unimplemented(self) {
        let message = format!("method {} is not implemented", self.method);
        self.fail(Code::UNIMPLEMENTED, message);
    }
    /// Reads the body as Q and answers with what `handler` says.
    pub fn answer<Q: flat::Read<'a>, T: Payload>(self, handler: impl FnOnce(Q, &mut Call<'a, T>) -> Reply<T>) {
        match flat::read::<Q>(self.body) {
            Some(q) => self.answer_raw(|call| handler(q, call)),
            None => self.fail(Code::INVALID_ARGUMENT, format!("malformed {}", Q::shape().name)),
        }
    }
    /// The same without a message.
    pub fn answer_raw<T: Payload>(self, handler: impl FnOnce(&mut Call<'a, T>) -> Reply<T>) {
        let mut call = Call { raw: self, answers: PhantomData };
        let reply = handler(&mut call);
        match (reply, call.raw.open.take()) {
            (Reply::Now(result), Some(token)) => token.complete(result.map(|t| t.payload())),
            (Reply::Later, Some(token)) => token.fail(Code::INTERNAL, "the module returned Later without taking call.later()"),
            (Reply::Later, None) => (),
            // The completer, wherever it is, gives the one answer.
            (Reply::Now(_), None) => call.raw.line.log(Level::Error, "answered a call with Now after taking its completer; the completer's answer counts", &[]),
        }
    }
    /// Reads the body as Q and leaves the stream to `handler`.
    pub fn stream<Q: flat::Read<'a>, C: Payload>(self, handler: impl FnOnce(Q, Stream<C>)) {
        match flat::read::<Q>(self.body) {
            Some(q) => self.stream_raw(|s| handler(q, s)),
            None => self.fail(Code::INVALID_ARGUMENT, format!("malformed {}", Q::shape().name)),
        }
    }
    pub fn stream_raw<C: Payload>(self, handler: impl FnOnce(Stream<C>)) {
        if let Some(token) = self.open.take() {
            handler(Stream { token, chunks: PhantomData });
        }
    }
}

/// What a handler is told beside the message.
pub struct Call<'a, T> {
    raw: RawCall<'a>,
    answers: PhantomData<fn(T)>,
}

impl<'a, T: Payload> Call<'a, T> {
    /// The number `cancelled` is called with.
    pub fn token(&self) -> u64 {
        self.raw.token
    }
    /// CLOCK_MONOTONIC nanoseconds; 0 = none.
    pub fn deadline_ns(&self) -> u64 {
        self.raw.deadline_ns
    }
    /// W3C trace id; zeroes if there is none.
    pub fn trace(&self) -> [u8; 16] {
        self.raw.trace
    }
    /// Passed descriptors, borrowed: `try_clone_to_owned` what is kept beyond the handler.
    pub fn fds(&self) -> Vec<BorrowedFd<'a>> {
        // SAFETY: the host keeps them open until the call is completed; the handler's borrow is shorter.
        self.raw.fds.iter().filter(|fd| **fd >= 0).map(|&fd| unsafe { BorrowedFd::borrow_raw(fd) }).collect()
    }
    /// Takes over the answer; the handler then returns [`Reply::Later`]. Taken a second time, it answers nothing.
    pub fn later(&mut self) -> Completer<T> {
        let token = self.raw.open.take();
        if token.is_none() {
            self.raw.line.log(Level::Error, "took the completer of a call twice; the second one answers nothing", &[]);
        }
        Completer { token, answers: PhantomData }
    }
}

/// Answers one call, once, from any thread. Dropped unused it answers CANCELLED.
pub struct Completer<T> {
    token: Option<Token>,
    answers: PhantomData<fn(T)>,
}

impl<T: Payload> Completer<T> {
    pub fn complete(mut self, result: Result<T>) {
        if let Some(token) = self.token.take() {
            token.complete(result.map(|t| t.payload()));
        }
    }
}

/// Answers one call with any number of chunks and, at last, `finish`. Dropped before it answers CANCELLED.
pub struct Stream<C> {
    token: Token,
    chunks: PhantomData<fn(C)>,
}

impl<C: Payload> Stream<C> {
    /// The number `cancelled` is called with.
    pub fn token(&self) -> u64 {
        self.token.token
    }
    pub fn more(&self, chunk: &C) {
        self.token.line.complete(self.token.token, crate::abi::MORE, &chunk.payload());
    }
    pub fn finish(self, result: Result<()>) {
        self.token.complete(result.map(|_| Vec::new()));
    }
}
