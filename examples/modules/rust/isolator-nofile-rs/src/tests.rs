//! The module on a host in memory, without a daemon.
use super::*;
use gantry::testing::Subject;
use std::process::{Child, Command};

type Test = Subject<isolator::Kind, Nofile>;

/// A process that waits to be limited.
struct Task(Child);
impl Task {
    fn start() -> Task {
        Task(Command::new("sleep").arg("1000").spawn().unwrap())
    }
    fn pid(&self) -> i32 {
        self.0.id() as i32
    }
    fn limit(&self) -> (u64, u64) {
        let mut r = Rlimit { soft: 0, hard: 0 };
        assert_eq!(unsafe { prlimit64(self.pid(), RLIMIT_NOFILE, std::ptr::null(), &mut r) }, 0);
        (r.soft, r.hard)
    }
}
impl Drop for Task {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

fn subject(limit: i64) -> Test {
    let mut t = Test::new();
    t.configure(&[("limit", limit.into())]).unwrap();
    t.start().unwrap();
    t
}
fn prepare(t: &mut Test, id: &str) -> Result<Vec<u8>> {
    t.call(Method::PREPARE.0, &PrepareT { container_id: id.into(), ..Default::default() })
}
fn attach(t: &mut Test, id: &str, pid: i32) -> Result<Vec<u8>> {
    t.call(Method::ATTACH.0, &AttachT { container_id: id.into(), pid, ..Default::default() })
}
fn cleanup(t: &mut Test, id: &str) -> Result<Vec<u8>> {
    t.call(Method::CLEANUP.0, &CleanupT { container_id: id.into() })
}

#[test]
fn caps_the_held_process() {
    let mut t = subject(64);
    prepare(&mut t, "c1").unwrap();
    prepare(&mut t, "c1").unwrap();
    let task = Task::start();
    attach(&mut t, "c1", task.pid()).unwrap();
    assert_eq!(task.limit(), (64, 64));
    cleanup(&mut t, "c1").unwrap();
    cleanup(&mut t, "c1").unwrap();
    assert_eq!(attach(&mut t, "c1", task.pid()).unwrap_err().code, Code::NOT_FOUND);
    t.stop().unwrap();
    assert!(t.close().is_empty());
}

#[test]
fn a_process_that_is_none_is_an_error() {
    let mut t = subject(64);
    prepare(&mut t, "c1").unwrap();
    assert_eq!(attach(&mut t, "c1", 0).unwrap_err().code, Code::INVALID_ARGUMENT);
    let task = Task::start();
    let gone = task.pid();
    drop(task);
    assert_eq!(attach(&mut t, "c1", gone).unwrap_err().code, Code::NOT_FOUND);
}

#[test]
fn a_reload_counts_for_the_next_task_and_a_wrong_one_changes_nothing() {
    let mut t = subject(64);
    t.reload(&[("limit", 32.into())]).unwrap();
    assert_eq!(t.reload(&[("limit", 3.into())]).unwrap_err().key_path, "limit");
    prepare(&mut t, "c1").unwrap();
    let task = Task::start();
    attach(&mut t, "c1", task.pid()).unwrap();
    assert_eq!(task.limit(), (32, 32));
}

#[test]
fn containers_from_before_are_known_again_and_others_forgotten() {
    let mut t = subject(64);
    prepare(&mut t, "old").unwrap();
    let recover = RecoverT { containers: vec![KnownT { container_id: "c9".into(), ..Default::default() }] };
    t.call(gantry::abi::METHOD_RECOVER, &recover).unwrap();
    let task = Task::start();
    attach(&mut t, "c9", task.pid()).unwrap();
    assert_eq!(attach(&mut t, "old", task.pid()).unwrap_err().code, Code::NOT_FOUND);
}
