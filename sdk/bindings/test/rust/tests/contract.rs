//! What the crate promises whatever a module does: one completion a call, no panic out, nothing after destroy.
use gantry::fb::isolator::*;
use gantry::fb::HealthT;
use gantry::testing::Subject;
use gantry::*;
use std::sync::{mpsc, Mutex};
use std::time::Duration;

/// Misbehaves as the container's id says.
struct Probe {
    host: Host<Self>,
    kept: Vec<Completer<PreparedT>>,
    streams: Vec<Stream<LimitedT>>,
    cancelled: Vec<u64>,
    answers: Vec<String>,
    ticks: i64,
    timer: Option<Timer>,
}

static ESCAPED: Mutex<Option<Completer<PreparedT>>> = Mutex::new(None);
static HANDLE: Mutex<Option<Host<Probe>>> = Mutex::new(None);

impl Module for Probe {
    fn new(host: Host<Self>) -> Self {
        Probe { host, kept: vec![], streams: vec![], cancelled: vec![], answers: vec![], ticks: 0, timer: None }
    }
    fn configure(&mut self, settings: Settings<'_>, _: &mut Call<'_, ()>) -> Reply<()> {
        now(|| {
            if settings.number("limit") < 1 {
                return Err(Error::new(Code::INVALID_ARGUMENT, "limit must be positive").key("limit"));
            }
            if settings.text("name") != "x" || settings.list("hosts") != ["a", "b"] {
                return Err(Error::new(Code::INVALID_ARGUMENT, "as asked").key("hosts"));
            }
            assert_eq!((settings.flag("on"), settings.real("ratio")), (true, 0.5));
            assert_eq!(settings.duration("wait"), Duration::from_secs(5));
            assert!(settings.given("limit") && !settings.given("absent") && settings.text("absent").is_empty());
            Ok(())
        })
    }
    fn health(&mut self) -> HealthT {
        HealthT { message: format!("{} {}", self.ticks, self.answers.join(",")), ..Default::default() }
    }
    fn cancelled(&mut self, token: u64) {
        self.cancelled.push(token);
        self.kept.clear();
    }
    fn stop(&mut self, _: &mut Call<'_, ()>) -> Reply<()> {
        for s in self.streams.drain(..) {
            s.finish(Ok(()));
        }
        Reply::Now(Ok(()))
    }
}

impl isolator::Isolator for Probe {
    fn prepare(&mut self, request: Prepare<'_>, call: &mut Call<'_, PreparedT>) -> Reply<PreparedT> {
        let ok = || Ok(PreparedT { cgroup_kill: "here".into(), ..Default::default() });
        match request.container_id() {
            "panic" => panic!("on purpose"),
            "panic-kept" => {
                let _mine = call.later();
                panic!("with a completer in hand")
            }
            "drop" => {
                call.later();
                Reply::Later
            }
            "lost" => Reply::Later,
            "both" => {
                call.later().complete(ok());
                Reply::Now(ok())
            }
            "twice" => {
                let first = call.later();
                call.later().complete(Err(Error::new(Code::ABORTED, "from the second")));
                first.complete(ok());
                Reply::Later
            }
            "keep" => {
                self.kept.push(call.later());
                Reply::Later
            }
            "escape" => {
                *ESCAPED.lock().unwrap() = Some(call.later());
                *HANDLE.lock().unwrap() = Some(self.host.clone());
                Reply::Later
            }
            "thread" => {
                let done = call.later();
                std::thread::spawn(move || done.complete(Ok(PreparedT { namespaces: 7, ..Default::default() })));
                Reply::Later
            }
            "offload" => {
                let done = call.later();
                self.host.offload(|| 40 + 2, move |me, n| {
                    me.ticks += 1;
                    done.complete(n.map(|n| PreparedT { namespaces: n, ..Default::default() }))
                });
                Reply::Later
            }
            "offload-panic" => {
                let done = call.later();
                self.host.offload(|| -> u32 { panic!("in the pool") }, move |_, n| done.complete(n.map(|_| PreparedT::default())));
                Reply::Later
            }
            "post-panic" => {
                self.host.post(|_| panic!("posted"));
                Reply::Now(ok())
            }
            "timer" => {
                self.timer = Some(self.host.timer(Duration::from_secs(5), |me| me.ticks += 10));
                self.host.timer(Duration::from_secs(3), |me| me.ticks += 100);
                Reply::Now(ok())
            }
            "no-timer" => {
                self.host.cancel_timer(self.timer.take().unwrap());
                Reply::Now(ok())
            }
            "ask" => {
                let service = gantry::fb::host::Service::STORE;
                self.host.request(service, 16, b"question", |me, answer| {
                    me.answers.push(match answer {
                        Ok(Some(bytes)) => String::from_utf8_lossy(bytes).into_owned(),
                        Ok(None) => "end".into(),
                        Err(e) => format!("{}: {}", e.code.0, e),
                    })
                });
                Reply::Now(ok())
            }
            "metric" => {
                let m = self.host.metric(MetricKind::COUNTER, "probes", "1", "probes sent");
                self.host.add(m, 1.0);
                self.host.add(self.host.metric(MetricKind::COUNTER, "probes", "1", "probes sent"), 2.0);
                Reply::Now(ok())
            }
            "fds" => Reply::Now(Ok(PreparedT { namespaces: call.fds().len() as u32, ..Default::default() })),
            "io" => now(|| {
                std::fs::read("/nonexistent/file")?;
                ok()
            }),
            _ => Reply::Now(ok()),
        }
    }
    fn watch(&mut self, request: Watch<'_>, stream: Stream<LimitedT>) {
        stream.more(&LimitedT { message: request.container_id().into(), ..Default::default() });
        self.streams.push(stream);
    }
    fn cleanup(&mut self, _: Cleanup<'_>, _: &mut Call<'_, ()>) -> Reply<()> {
        Reply::Now(Ok(()))
    }
}

type Test = Subject<isolator::Kind, Probe>;

fn subject() -> Test {
    std::panic::set_hook(Box::new(|_| ())); // panics here are on purpose
    Test::new()
}
fn prepare(t: &mut Test, id: &str) -> Result<PreparedT> {
    let body = t.call(Method::PREPARE.0, &PrepareT { container_id: id.into(), ..Default::default() })?;
    Ok(flat::read::<Prepared<'_>>(&body).expect("a valid answer").unpack())
}
fn send(t: &mut Test, id: &str) -> u64 {
    t.send(Method::PREPARE.0, &PrepareT { container_id: id.into(), ..Default::default() }.pack())
}
fn code(r: Result<PreparedT>) -> Code {
    r.expect_err("an error").code
}
fn health(t: &mut Test) -> String {
    let token = t.send(3, &[]);
    let body = t.answer(token).unwrap();
    flat::read::<gantry::fb::Health<'_>>(&body).unwrap().message().to_string()
}
fn none() -> Vec<String> {
    vec![]
}

#[test]
fn answers_at_once_and_later() {
    let mut t = subject();
    assert_eq!(prepare(&mut t, "plain").unwrap().cgroup_kill, "here");
    assert_eq!(prepare(&mut t, "thread").unwrap().namespaces, 7);
    assert_eq!(prepare(&mut t, "offload").unwrap().namespaces, 42);
    assert_eq!(health(&mut t), "1 ");
    assert_eq!(t.close(), none());
}

#[test]
fn a_panic_is_an_internal_error_and_the_instance_lives() {
    let mut t = subject();
    let e = prepare(&mut t, "panic").unwrap_err();
    assert_eq!((e.code, e.message.as_str()), (Code::INTERNAL, "panic in method 16: on purpose"));
    assert_eq!(code(prepare(&mut t, "panic-kept")), Code::INTERNAL);
    assert_eq!(code(prepare(&mut t, "offload-panic")), Code::INTERNAL);
    prepare(&mut t, "post-panic").unwrap();
    assert!(t.logs().iter().any(|l| l.0 == 3 && l.1 == "panic: posted"), "{:?}", t.logs());
    prepare(&mut t, "plain").unwrap();
    assert_eq!(t.close(), none());
}

#[test]
fn each_token_is_completed_once_whatever_the_module_does() {
    let mut t = subject();
    assert_eq!(code(prepare(&mut t, "drop")), Code::CANCELLED);
    assert_eq!(code(prepare(&mut t, "lost")), Code::INTERNAL);
    prepare(&mut t, "both").unwrap();
    prepare(&mut t, "twice").unwrap();
    assert_eq!(t.logs().iter().filter(|l| l.0 == 3).count(), 2, "{:?}", t.logs());
    let kept = send(&mut t, "keep");
    assert!(!t.answered(kept));
    t.cancel(kept);
    assert_eq!(t.answer(kept).unwrap_err().code, Code::CANCELLED);
    let left = send(&mut t, "keep");
    let faults = t.close(); // the module still held it: destroy dropped it while the host was there
    assert_eq!(faults, [format!("token {} was never completed", left)]);
}

#[test]
fn nothing_reaches_the_host_after_destroy() {
    let mut t = subject();
    send(&mut t, "escape");
    let _ = t.close();
    let (said, heard) = mpsc::channel();
    std::thread::spawn(move || {
        ESCAPED.lock().unwrap().take().unwrap().complete(Ok(PreparedT::default()));
        let host = HANDLE.lock().unwrap().take().unwrap();
        host.info("still here?");
        host.post(|_| unreachable!());
        host.offload(|| (), |_, _| unreachable!());
        host.timer(Duration::ZERO, |_| unreachable!());
        host.request(gantry::fb::host::Service::STORE, 16, &[], |_, _| unreachable!());
        said.send(host.now()).unwrap();
    });
    assert_eq!(heard.recv_timeout(Duration::from_secs(10)).unwrap(), Duration::ZERO);
}

#[test]
fn unknown_methods_and_malformed_bodies() {
    let mut t = subject();
    for method in [5, 15, 22, 99, u32::MAX] {
        let token = t.send(method, &[]);
        assert_eq!(t.answer(token).unwrap_err().code, Code::UNIMPLEMENTED, "{}", method);
    }
    for method in [0, 4, 16, 17, 18, 19, 20, 21] {
        for body in [&[][..], &[0xff; 40], &[4, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0]] {
            let token = t.send(method, body);
            let e = t.answer(token).unwrap_err();
            assert_eq!(e.code, Code::INVALID_ARGUMENT, "method {}", method);
            assert!(e.message.starts_with("malformed gantry.fb."), "{}", e);
        }
    }
    assert_eq!(t.close(), none());
}

#[test]
fn settings_arrive_typed_and_errors_name_their_key() {
    let mut t = subject();
    let given = |limit: i64| -> Vec<(&'static str, gantry::testing::Value)> {
        let hosts = vec!["a".to_string(), "b".to_string()];
        vec![("limit", limit.into()), ("name", "x".into()), ("on", true.into()), ("ratio", 0.5.into()), ("hosts", hosts.into()), ("wait", Duration::from_secs(5).into())]
    };
    t.configure(&given(3)).unwrap();
    t.reload(&given(4)).unwrap();
    let e = t.reload(&given(0)).unwrap_err();
    assert_eq!((e.code, e.key_path.as_str()), (Code::INVALID_ARGUMENT, "limit"));
    let mut wrong = given(4);
    wrong[1].1 = 7.into();
    wrong[4].1 = "a,b".into();
    let e = t.reload(&wrong).unwrap_err();
    assert_eq!((e.code, e.key_path.as_str()), (Code::INVALID_ARGUMENT, "name"));
    t.start().unwrap();
    t.stop().unwrap();
    assert_eq!(t.close(), none());
}

#[test]
fn streams_give_chunks_then_one_end() {
    let mut t = subject();
    let token = t.send(Method::WATCH.0, &WatchT { container_id: "c1".into() }.pack());
    assert!(!t.answered(token));
    assert_eq!(flat::read::<Limited<'_>>(&t.chunks(token)[0]).unwrap().message(), "c1");
    t.stop().unwrap();
    assert_eq!(t.answer(token), Ok(vec![]));
    assert_eq!(t.close(), none());
}

#[test]
fn timers_requests_metrics_descriptors() {
    let mut t = subject();
    prepare(&mut t, "timer").unwrap();
    t.advance(Duration::from_secs(4));
    prepare(&mut t, "no-timer").unwrap();
    t.advance(Duration::from_secs(4));
    assert_eq!(health(&mut t), "100 ");
    prepare(&mut t, "timer").unwrap(); // pending at destroy

    prepare(&mut t, "ask").unwrap();
    let asked = t.asked();
    assert_eq!((asked[0].service, asked[0].method, asked[0].body.as_slice()), (2, 16, &b"question"[..]));
    t.reply(asked[0].token, 1, b"one");
    t.reply(asked[0].token, 0, b"two");
    t.reply(asked[0].token, 0, b"late");
    t.reply(12345, 0, b"unknown");
    t.refuse_requests(-7);
    prepare(&mut t, "ask").unwrap();
    assert_eq!(health(&mut t), "100 one,two,end,-7: code -7");

    prepare(&mut t, "metric").unwrap();
    assert_eq!(t.metric("probes"), Some(3.0));
    let body = PrepareT { container_id: "fds".into(), ..Default::default() }.pack();
    let token = t.send_with(Method::PREPARE.0, &body, &[0, 1, 2]);
    assert_eq!(flat::read::<Prepared<'_>>(&t.answer(token).unwrap()).unwrap().namespaces(), 3);
    assert_eq!(code(prepare(&mut t, "io")), Code::NOT_FOUND);
    assert_eq!(t.close(), none());
}
