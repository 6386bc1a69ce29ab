//! Authenticator `@NAME@`. The contract: docs/authenticator.md and schema/authenticator.fbs of the SDK.
use gantry::fb::authenticator::*;
use gantry::*;

/// Calls come one at a time (one strand), so nothing here is locked.
pub struct @CLASS@ {
    principal: String,
    secret: String,
}

impl Module for @CLASS@ {
    fn new(_host: Host<Self>) -> Self {
        @CLASS@ { principal: String::new(), secret: String::new() }
    }

    fn configure(&mut self, settings: Settings<'_>, _: &mut Call<'_, ()>) -> Reply<()> {
        if settings.text("secret").is_empty() {
            return Error::new(Code::INVALID_ARGUMENT, "secret is empty: nobody could be let in").key("secret").into();
        }
        self.principal = settings.text("principal").to_string();
        self.secret = settings.text("secret").to_string();
        Ok(()).into()
    }
}

impl authenticator::Authenticator for @CLASS@ {
    /// Three answers: an identity; UNAUTHENTICATED; UNIMPLEMENTED for a scheme that is not ours, so that the next module is
    /// asked. What takes long (a hash, a directory server) belongs into `host.offload` or `host.request`, never here.
    fn authenticate(&mut self, request: Credentials<'_>, _: &mut Call<'_, IdentityT>) -> Reply<IdentityT> {
        // Links of agents give principal and secret as they are; listeners the scheme and parameters of the header.
        let (principal, secret) = match request.scheme() {
            "" => (request.principal().as_bytes().to_vec(), request.secret().as_bytes().to_vec()),
            "basic" => {
                let pair = decode_base64(request.parameters());
                let colon = pair.iter().position(|b| *b == b':').unwrap_or(pair.len());
                (pair[..colon].to_vec(), pair.get(colon + 1..).unwrap_or(&[]).to_vec())
            }
            other => return Error::new(Code::UNIMPLEMENTED, format!("scheme \"{}\" is not basic", other)).into(),
        };
        let (known, right) = (equal(&principal, self.principal.as_bytes()), equal(&secret, self.secret.as_bytes()));
        // One sentence for both: it must not tell who exists.
        if !known || !right || self.secret.is_empty() {
            return Error::new(Code::UNAUTHENTICATED, "unknown principal or wrong secret").into();
        }
        Ok(IdentityT { principal: self.principal.clone(), ..Default::default() }).into()
    }

    fn challenge(&mut self, request: Challenge<'_>, _: &mut Call<'_, ChallengeT>) -> Reply<ChallengeT> {
        let realm = request.realm().to_string();
        Ok(ChallengeT { value: format!("Basic realm=\"{}\"", realm), realm }).into()
    }
}

/// The same time wherever the two differ: answers must not tell how much of a secret was right.
fn equal(given: &[u8], stored: &[u8]) -> bool {
    let mut difference = (given.len() != stored.len()) as u8;
    for (i, byte) in stored.iter().enumerate() {
        difference |= byte ^ given.get(i).copied().unwrap_or(0);
    }
    difference == 0
}

/// "user:secret" out of the parameters of an HTTP Basic header; empty if they are no base64.
fn decode_base64(text: &str) -> Vec<u8> {
    let (mut out, mut bits, mut have) = (Vec::new(), 0_u32, 0);
    for c in text.trim_end_matches('=').bytes() {
        let value = match c {
            b'A'..=b'Z' => c - b'A',
            b'a'..=b'z' => c - b'a' + 26,
            b'0'..=b'9' => c - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return Vec::new(),
        };
        bits = bits << 6 | value as u32;
        have += 6;
        if have >= 8 {
            have -= 8;
            out.push((bits >> have) as u8);
        }
    }
    out
}

export_module!(authenticator, @CLASS@, "@NAME@");

#[cfg(test)]
mod tests;
