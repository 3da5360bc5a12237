//! Access by a bearer token.

use axum::http::{HeaderMap, header};
use subtle::ConstantTimeEq as _;

use crate::failure::{Failure, Kind, Result};

/// The token that a client must send.
pub struct Token(String);

impl Token {
    /// An error for a token that no header can hold, or that is too short to be a secret.
    pub fn new(token: &str) -> gatefold::Result<Self> {
        let token = token.trim();
        if token.len() < 16 || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(gatefold::Error::Option {
                option: "token".into(),
                expected: "at least 16 printable ASCII characters without spaces".into(),
                got: format!("{} bytes", token.len()),
            });
        }
        Ok(Self(token.to_owned()))
    }

    /// An error unless the request has the token. The time of the comparison depends on the lengths of the two
    /// tokens, not on their content.
    pub fn check(&self, headers: &HeaderMap) -> Result<()> {
        let given = headers.get(header::AUTHORIZATION).map(|value| value.as_bytes());
        let given = given.and_then(|value| {
            let (scheme, token) = value.split_at_checked(7)?;
            scheme.eq_ignore_ascii_case(b"Bearer ").then_some(token)
        });
        if given.is_some_and(|token| bool::from(token.ct_eq(self.0.as_bytes()))) {
            return Ok(());
        }
        let got = if given.is_some() { "another token" } else { "none" };
        Err(Failure::new(
            Kind::Unauthorized,
            format!("Authorization: expected Bearer and the server's token, got {got}"),
        ))
    }
}
