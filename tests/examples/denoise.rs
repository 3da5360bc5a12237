//! DTLN as the example runs it.

use gatefold::Device;

use crate::data;
use crate::dtln::{FRAME, SHIFT, Stream, cores};
use crate::support::read_wav;

fn energy(samples: &[f32]) -> f32 {
    samples.iter().map(|x| x * x).sum()
}

/// The recording's first seconds with steady noise on them, and the noise alone before.
fn noisy() -> Option<(Vec<f32>, usize)> {
    let (speech, _) = read_wav(&data("silero-vad/test.wav")?).unwrap();
    let mut rng = fastrand::Rng::with_seed(3);
    let silence = 32 * 1024;
    let mut samples = vec![0.0; silence];
    samples.extend_from_slice(&speech[..64 * 1024]);
    samples.iter_mut().for_each(|x| *x += 0.02 * (rng.f32() - 0.5));
    Some((samples, silence))
}

/// Portions of any length are frame after frame; noise goes, speech stays; both files agree.
#[test]
fn noise_goes_and_speech_stays() {
    let Some((samples, silence)) = noisy() else { return };
    let (Some(h5), Some(onnx)) = (data("dtln/model.h5"), data("dtln/model_1.onnx")) else { return };
    let device = Device::cpu();
    let networks = cores(&h5).unwrap();
    let cleaned = Stream::new(&device, &networks).unwrap().denoise(&samples).unwrap();
    assert_eq!(cleaned.len(), samples.len());

    let mut stream = Stream::new(&device, &networks).unwrap();
    let one_by_one: Vec<f32> = samples.chunks_exact(SHIFT).flat_map(|block| stream.denoise(block).unwrap()).collect();
    let worst = cleaned.iter().zip(&one_by_one).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(worst < 1e-6, "frame by frame differs by {worst}");

    let from_onnx = cores(onnx.parent().unwrap()).unwrap();
    let other = Stream::new(&device, &from_onnx).unwrap().denoise(&samples).unwrap();
    let worst = cleaned.iter().zip(&other).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(worst < 1e-5, "model.h5 and the ONNX files differ by {worst}");

    // After a second the cores have settled.
    let late = FRAME - SHIFT;
    let quiet = |x: &[f32], shift: usize| energy(&x[16_000 + shift..silence - FRAME + shift]);
    let kept = quiet(&cleaned, late) / quiet(&samples, 0);
    assert!(kept < 0.1, "{kept} of the noise is left");
    let speech = |x: &[f32], shift: usize| energy(&x[silence + shift..samples.len() - FRAME + shift]);
    let kept = speech(&cleaned, late) / speech(&samples, 0);
    assert!((0.5..1.2).contains(&kept), "{kept} of the speech is left");
}

#[test]
fn another_model_is_named() {
    let lstm = crate::repository::in_repository("tests/goldens/lstm.safetensors");
    assert!(cores(&lstm).unwrap_err().to_string().contains("lstm.safetensors"));
    assert!(cores("/nowhere.h5".as_ref()).unwrap_err().to_string().contains("/nowhere.h5"));
}
