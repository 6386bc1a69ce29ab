//! The module on a host in memory.
use super::*;
use gantry::testing::Subject;

fn ask(scheme: &str, parameters: &str, principal: &str, secret: &str) -> Result<String> {
    let mut t = Subject::<authenticator::Kind, @CLASS@>::new();
    t.configure(&[("principal", "alice".into()), ("secret", "wonderland".into())]).unwrap();
    let credentials = CredentialsT {
        scheme: scheme.into(),
        parameters: parameters.into(),
        principal: principal.into(),
        secret: secret.into(),
        ..Default::default()
    };
    let answer = t.call(Method::AUTHENTICATE.0, &credentials);
    assert_eq!(t.close(), Vec::<String>::new()); // no breach of the ABI
    Ok(flat::read::<Identity<'_>>(&answer?).unwrap().principal().to_string())
}

#[test]
fn lets_in_who_knows_the_secret() {
    assert_eq!(ask("", "", "alice", "wonderland").unwrap(), "alice");
    assert_eq!(ask("basic", "YWxpY2U6d29uZGVybGFuZA==", "", "").unwrap(), "alice");
    for (scheme, parameters, principal, secret) in
        [("", "", "alice", ""), ("", "", "bob", "wonderland"), ("basic", "no base64!", "", ""), ("", "", "", "")]
    {
        assert_eq!(ask(scheme, parameters, principal, secret).unwrap_err().code, Code::UNAUTHENTICATED);
    }
    assert_eq!(ask("bearer", "x", "", "").unwrap_err().code, Code::UNIMPLEMENTED);
}

#[test]
fn an_empty_secret_is_refused_by_key() {
    let mut t = Subject::<authenticator::Kind, @CLASS@>::new();
    let e = t.configure(&[("principal", "alice".into()), ("secret", "".into())]).unwrap_err();
    assert_eq!(e.key_path, "secret");
}
