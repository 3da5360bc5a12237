//! ONNX Runtime behind the thinnest server: each request brings an input and the state of its stream, and takes the output and the
//! next state. No JSON, no names, no queue: the body is x, h and c as f32, the answer y, h and c.
//!
//! `ORT_DYLIB_PATH=.../libonnxruntime.so onnxruntime-server 127.0.0.1:8200 model.onnx`, with the model of `server/model.py`. The load
//! comes from `gatefold-serve`'s example `load`, with `--state client`.

use std::cell::RefCell;
use std::convert::Infallible;
use std::error::Error;
use std::net::SocketAddr;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use ort::session::Session;
use ort::value::TensorRef;
use tokio::net::TcpListener;

const I: usize = 40;
const H: usize = 128;

thread_local! {
    /// A run needs a session of its own.
    static SESSION: RefCell<Option<Session>> = const { RefCell::new(None) };
}

fn main() -> Result<(), Box<dyn Error>> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [address, model] = &words[..] else { return Err("expected an address and a model".into()) };
    let address: SocketAddr = address.parse()?;
    // Leaked once, so that every connection can name it.
    let model: &'static str = model.clone().leak();
    open(model)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = TcpListener::bind(address).await?;
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            tokio::spawn(async move {
                let service = service_fn(move |request| answer(request, model));
                let mut builder = http1::Builder::new();
                builder.pipeline_flush(true);
                // A client may go away at any time.
                let _ = builder.serve_connection(TokioIo::new(stream), service).await;
            });
        }
    })
}

fn open(model: &str) -> ort::Result<Session> {
    Ok(Session::builder()?.with_intra_threads(1)?.with_inter_threads(1)?.commit_from_file(model)?)
}

async fn answer(request: Request<Incoming>, model: &'static str) -> Result<Response<Full<Bytes>>, Infallible> {
    let stepped = match request.into_body().collect().await {
        Ok(body) => step(&body.to_bytes(), model).map_err(|error| error.to_string()),
        Err(error) => Err(error.to_string()),
    };
    Ok(match stepped {
        Ok(bytes) => Response::new(Full::new(bytes)),
        Err(error) => {
            let mut response = Response::new(Full::new(error.into()));
            *response.status_mut() = StatusCode::BAD_REQUEST;
            response
        }
    })
}

fn step(body: &[u8], model: &str) -> Result<Bytes, Box<dyn Error>> {
    let numbers: Vec<f32> = body.as_chunks().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect();
    if body.len() != 4 * (I + 2 * H) {
        return Err(format!("expected {} numbers, got {} bytes", I + 2 * H, body.len()).into());
    }
    let (x, state) = numbers.split_at(I);
    let (h, c) = state.split_at(H);
    SESSION.with_borrow_mut(|session| {
        let session = match session {
            Some(session) => session,
            none => none.insert(open(model)?),
        };
        let outputs = session.run(ort::inputs![
            "x" => TensorRef::from_array_view(([1usize, 1, I], x))?,
            "h" => TensorRef::from_array_view(([1usize, 1, H], h))?,
            "c" => TensorRef::from_array_view(([1usize, 1, H], c))?,
        ])?;
        let mut bytes = Vec::with_capacity(4 * (2 + 2 * H));
        for name in ["y", "h_n", "c_n"] {
            let (_, values) = outputs[name].try_extract_tensor::<f32>()?;
            bytes.extend(values.iter().flat_map(|value| value.to_le_bytes()));
        }
        Ok(bytes.into())
    })
}
