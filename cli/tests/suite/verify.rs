use crate::support::{Folder, answer, json, on_software, refusal, repository, run};

#[test]
fn the_cpu_passes_on_every_kind_of_input() {
    let table = answer(["verify", "--device", "cpu"]);
    for word in ["random input, T = 20, B = 3, seed 0", "lstm.l0", "softmax", "lstm c_n", "20 x 3 x 32", "pass: all of"]
    {
        assert!(table.contains(word), "{word} in\n{table}");
    }
    assert!(!table.contains("FAIL"));
    let text = answer(["verify", "--device", "cpu", "--text", "a warm, funny film"]);
    assert!(text.contains("T = 4, B = 1"), "{text}");
    let golden = repository("tests/goldens/lstm_batch_first_two_layers_bidirectional.safetensors");
    let golden = answer(["verify", &golden, "--device", "cpu", "--steps", "7", "--batch", "2", "--seed", "5"]);
    assert!(golden.contains("T = 7, B = 2, seed 5"), "{golden}");
}

/// The negative control.
#[test]
fn a_planted_fault_is_found() {
    let golden = repository("tests/goldens/lstm_no_bias.safetensors");
    for args in [
        vec!["verify", "--device", "cpu"],
        vec!["verify", "--device", "cpu", "--text", "a film"],
        vec!["verify", "--device", "cpu", &golden],
    ] {
        let run = run(args.iter().chain(&["--plant-fault"]));
        assert_eq!(run.code, 1, "{run:?}");
        assert!(run.stdout.contains("FAIL"), "{run:?}");
    }
}

#[test]
fn a_software_adapter_passes_and_its_fault_is_found() {
    let right = on_software(&["verify"]);
    assert_eq!(right.code, 0, "{right:?}");
    assert!(right.stdout.contains("software renderer"), "{right:?}");
    let wrong = on_software(&["verify", "--plant-fault"]);
    assert_eq!(wrong.code, 1, "{wrong:?}");
}

/// Matrix units if the adapter has some; if it has none, an error.
#[test]
fn matrix_units_pass_or_are_refused() {
    let cpu = answer(["verify", "--device", "cpu", "--arithmetic", "matrix"]);
    assert!(cpu.contains("this CPU takes products in f32"), "{cpu}");
    let asked = ["verify", "--arithmetic", "matrix", "--batch", "9"];
    let run = on_software(&asked);
    let adapters = json(&answer(["devices", "--format", "json"]));
    // The one that `software` takes first; GL has none.
    let mut software = adapters["adapters"].as_array().expect("adapters").iter();
    let taken = software.find(|adapter| adapter["kind"] == "software renderer" && adapter["backend"] == "vulkan");
    match taken.and_then(|adapter| adapter["matrix_units"].as_u64()) {
        Some(8 | 16) => {
            assert_eq!(run.code, 0, "{run:?}");
            let wrong = on_software(&[&asked[..], &["--plant-fault"]].concat());
            assert_eq!(wrong.code, 1, "{wrong:?}");
        }
        _ => assert!(run.code == 2 && run.stderr.contains("no matrix units"), "{run:?}"),
    }
}

#[test]
fn auto_without_a_gpu_says_what_was_checked() {
    let adapters = json(&answer(["devices", "--format", "json"]));
    let table = answer(["verify"]);
    assert_eq!(table.contains("no GPU found"), adapters["takes"]["kind"] == "CPU", "{table}");
}

#[test]
fn all_checks_the_cpu_and_every_adapter() {
    let folder = Folder::new("all");
    let model = folder.path("small.safetensors");
    std::fs::copy(repository("tests/goldens/lstm_bidirectional.safetensors"), &model).expect("a copy");
    let adapters = json(&answer(["devices", "--format", "json"]));
    let table = answer(["verify", &model, "--all"]);
    assert!(table.lines().any(|line| line == "CPU"), "{table}");
    for adapter in adapters["adapters"].as_array().expect("adapters") {
        let name = adapter["name"].as_str().expect("a name");
        assert!(table.lines().any(|line| line.starts_with(name)), "{name} in\n{table}");
    }
    assert_eq!(run(["verify", &model, "--all", "--plant-fault"]).code, 1);
}

/// Gradients of the shipped model, of a network with an order of its own and of numbers; and the negative control.
#[test]
fn gradients_are_checked() {
    let golden = repository("tests/goldens/lstm_batch_first_two_layers_bidirectional.safetensors");
    for model in [vec![], vec![golden.as_str()]] {
        let args = ["verify", "--gradients", "--device", "cpu", "--steps", "6"];
        let args: Vec<&str> = args.into_iter().chain(model).collect();
        let table = answer(&args);
        assert!(
            table.contains("by differences") && table.contains("weight_hh_l0") && !table.contains("FAIL"),
            "{table}"
        );
        let wrong = run(args.iter().chain(&["--plant-fault"]));
        assert!(wrong.code == 1 && wrong.stdout.contains("FAIL"), "{wrong:?}");
    }
}

/// Numbers of another framework: an input and an output from files, and a wrong output as the control.
#[test]
fn numbers_of_a_framework_are_compared() {
    let model = repository("tests/goldens/keras_bidirectional.safetensors");
    let golden = repository("tests/goldens/keras_bidirectional.golden.safetensors");
    let verify = ["verify", &model, "--device", "cpu", "--input", &golden, "--expected"];
    let right = answer(verify.iter().chain(&[golden.as_str()]));
    assert!(right.contains("pass: the expected output"), "{right}");
    let folder = Folder::new("verify_given");
    let npy = |name: &str, shape: &str, numbers: &[f32]| {
        let header = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}\n");
        let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
        bytes.extend(u16::try_from(header.len()).unwrap().to_le_bytes());
        bytes.extend(header.bytes().chain(numbers.iter().flat_map(|x| x.to_le_bytes())));
        folder.file(name, bytes)
    };
    let bytes = std::fs::read(&golden).unwrap();
    let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let output = tensors.tensor("output").unwrap();
    let shape: Vec<String> = output.shape().iter().map(ToString::to_string).collect();
    let shape = format!("({})", shape.join(", "));
    let floats = output.data().chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap()));
    let mut numbers: Vec<f32> = floats.collect();
    let same = answer(verify.iter().chain(&[npy("same.npy", &shape, &numbers).as_str()]));
    assert!(same.contains("pass: the expected output"), "{same}");
    numbers[3] += 1e-3;
    let wrong = run(verify.iter().chain(&[npy("wrong.npy", &shape, &numbers).as_str()]));
    assert!(wrong.code == 1 && wrong.stdout.contains("FAIL: not the expected output"), "{wrong:?}");
    let flat = npy("flat.npy", &format!("({},)", numbers.len()), &numbers);
    refusal(verify.iter().chain(&[flat.as_str()]), &["flat.npy", "expected the output's shape"]);
    refusal(["verify", &model, "--input", &flat], &["flat.npy", "for `input`"]);
    refusal(["verify", &model, "--input", "nowhere.npy"], &["nowhere.npy"]);
    let text = folder.file("broken.json", "[[1, 2], [3]]");
    refusal(["verify", &model, "--input", &text], &["broken.json", "lists of different lengths"]);
    refusal(["verify", &model, "--expected", &flat], &["--input"]);
}
