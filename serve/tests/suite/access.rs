//! Access by a token.

use gatefold::{Device, Error};
use gatefold_serve::{Model, Options, Server};

use crate::common::{I, Running, features, infer, lstm, numbers, options};

const TOKEN: &str = "0123456789abcdef-secret";

#[test]
fn only_the_token_opens() {
    let server = Running::start(vec![("lstm", lstm(1))], Options { token: Some(TOKEN.into()), ..options() });
    let mut client = server.client();
    let body = features(&numbers(I, 1), &[1, 1, I]).to_string();
    let right = format!("Bearer {TOKEN}");
    let wrong = [
        None,
        Some("Bearer "),
        Some("Bearer 0123456789abcdef-secres"),
        Some("Bearer 0123456789abcdef-secret2"),
        Some("Bearer 0123456789abcdef-secre"),
        Some("Basic 0123456789abcdef-secret"),
        Some(TOKEN),
    ];
    for given in wrong {
        let headers: Vec<(&str, &str)> = given.iter().map(|&given| ("Authorization", given)).collect();
        for (method, path) in
            [("POST", infer("lstm")), ("GET", "/v2".into()), ("GET", "/metrics".into()), ("GET", "/x".into())]
        {
            let answer = client.send(method, &path, &headers, body.as_bytes());
            assert_eq!((answer.status, answer.header("www-authenticate")), (401, Some("Bearer")), "{given:?} {path}");
            assert!(!answer.error().contains(TOKEN));
        }
    }
    // Health says nothing that is secret, and who looks after the server has no token.
    client.get("/v2/health/live").good();
    client.get("/v2/health/ready").good();
    client.send("POST", &infer("lstm"), &[("Authorization", &right)], body.as_bytes()).good();
    client
        .send("POST", &infer("lstm"), &[("Authorization", &right.replace("Bearer", "bearer"))], body.as_bytes())
        .good();
}

#[test]
fn bad_options_are_refused() {
    let bind = |models: Vec<Model>, options: Options| Server::bind(&Device::cpu(), models, options).err();
    let one = |name: &str| vec![Model::new(name, lstm(1))];
    assert!(bind(one("lstm"), options()).is_none());
    for token in ["short", "with a space in it, long", ""] {
        let error = bind(one("lstm"), Options { token: Some(token.into()), ..options() }).unwrap();
        assert!(matches!(error, Error::Option { .. }) && !error.to_string().contains("space in"), "{error}");
    }
    for name in ["", "a/b", "..", "a b", "ü", &"x".repeat(200)] {
        assert!(matches!(bind(one(name), options()), Some(Error::Option { .. })), "{name}");
    }
    assert!(matches!(bind(vec![], options()), Some(Error::Option { .. })));
    let twice = vec![Model::new("a", lstm(1)), Model::new("a", lstm(2))];
    assert!(bind(twice, options()).unwrap().to_string().contains("`a` twice"));
    // An address that is taken.
    let server = Running::start(vec![("lstm", lstm(1))], options());
    let error = bind(one("lstm"), Options { listen: server.address, ..options() }).unwrap();
    assert!(matches!(error, Error::Io { .. }) && error.to_string().contains(&server.address.to_string()), "{error}");
}
