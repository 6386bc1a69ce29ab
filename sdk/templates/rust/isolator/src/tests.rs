//! The module on a host in memory.
use super::*;
use gantry::testing::Subject;

fn subject() -> Subject<isolator::Kind, @CLASS@> {
    let mut t = Subject::new();
    t.configure(&[("variable", "ISOLATED_BY".into())]).unwrap();
    t.start().unwrap();
    t
}

#[test]
fn life_of_a_container() {
    let mut t = subject();
    let body = t.call(Method::PREPARE.0, &PrepareT { container_id: "c1".into(), ..Default::default() }).unwrap();
    let prepared = flat::read::<Prepared<'_>>(&body).unwrap().unpack();
    assert_eq!(prepared.environment[0].name, "ISOLATED_BY");
    let attach = AttachT { container_id: "c1".into(), pid: 1, ..Default::default() };
    t.call(Method::ATTACH.0, &attach).unwrap();
    let cleanup = CleanupT { container_id: "c1".into() };
    t.call(Method::CLEANUP.0, &cleanup).unwrap();
    t.call(Method::CLEANUP.0, &cleanup).unwrap();
    assert_eq!(t.call(Method::ATTACH.0, &attach).unwrap_err().code, Code::NOT_FOUND);
    t.stop().unwrap();
    assert_eq!(t.close(), Vec::<String>::new()); // no breach of the ABI
}

#[test]
fn a_wrong_setting_is_refused_by_key() {
    let mut t = subject();
    let e = t.reload(&[("variable", "a=b".into())]).unwrap_err();
    assert_eq!(e.key_path, "variable");
}
