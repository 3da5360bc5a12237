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

/// An array in NumPy's format.
fn npy(shape: &[usize], numbers: &[f32]) -> Vec<u8> {
    let sizes: Vec<String> = shape.iter().map(|size| format!("{size},")).collect();
    let header = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({}), }}\n", sizes.concat());
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend(u16::try_from(header.len()).unwrap().to_le_bytes());
    bytes.extend(header.bytes().chain(numbers.iter().flat_map(|x| x.to_le_bytes())));
    bytes
}

/// An array of a safetensors file.
fn array(file: &str, name: &str) -> (Vec<usize>, Vec<f32>) {
    let bytes = std::fs::read(file).unwrap();
    let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let tensor = tensors.tensor(name).unwrap();
    let floats = tensor.data().chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap()));
    (tensor.shape().to_vec(), floats.collect())
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
    let npy = |name: &str, shape: &[usize], numbers: &[f32]| folder.file(name, npy(shape, numbers));
    let (shape, mut numbers) = array(&golden, "output");
    let same = answer(verify.iter().chain(&[npy("same.npy", &shape, &numbers).as_str()]));
    assert!(same.contains("pass: the expected output"), "{same}");
    numbers[3] += 1e-3;
    let wrong = npy("wrong.npy", &shape, &numbers);
    let wrong = |more: &[&'static str]| run(verify.iter().copied().chain([wrong.as_str()]).chain(more.iter().copied()));
    let failed = wrong(&[]);
    assert!(failed.code == 1 && failed.stdout.contains("FAIL: not the expected output"), "{failed:?}");
    // As a framework's f16 arithmetic would be off.
    assert_eq!([wrong(&["--tolerance", "2e-3"]).code, wrong(&["--tolerance", "5e-4"]).code], [0, 1]);
    assert_eq!([wrong(&["--tolerance=-1"]).code, wrong(&["--tolerance", "nan"]).code], [2, 2]);
    numbers[3] = f32::NAN;
    let nan = run(verify.iter().chain(&[npy("nan.npy", &shape, &numbers).as_str()]));
    assert!(nan.code == 1 && nan.stdout.contains("0 NaN, expected 1"), "{nan:?}");
    let flat = npy("flat.npy", &[numbers.len()], &numbers);
    refusal(verify.iter().chain(&[flat.as_str()]), &["flat.npy", "for `output`"]);
    refusal(["verify", &model, "--input", &flat], &["flat.npy", "for `input`"]);
    refusal(["verify", &model, "--input", "nowhere.npy"], &["nowhere.npy"]);
    let text = folder.file("broken.json", "[[1, 2], [3]]");
    refusal(["verify", &model, "--input", &text], &["broken.json", "lists of different lengths"]);
    refusal(["verify", &model, "--expected", &flat], &["--input"]);
}

/// The state that a run starts from and the one that it ends in, both by the name of their layer.
#[test]
fn states_of_a_framework_are_compared() {
    let model = repository("tests/goldens/lstm_bidirectional.safetensors");
    let golden = repository("tests/goldens/lstm_bidirectional.golden.safetensors");
    let folder = Folder::new("verify_states");
    let part = |name: &str, steps: std::ops::Range<usize>| {
        let (mut shape, numbers) = array(&golden, name);
        let of_step = numbers.len() / shape[0];
        shape[0] = steps.len();
        let path =
            folder.file(&format!("{name}.npy"), npy(&shape, &numbers[steps.start * of_step..steps.end * of_step]));
        (path, shape)
    };
    // The whole run ends in the golden's states, which are beside its output.
    let whole = answer(["verify", &model, "--device", "cpu", "--input", &golden, "--expected", &golden]);
    assert!(
        whole.contains("pass: the expected output") && whole.contains("rnn.h_n") && whole.contains("rnn.c_n"),
        "{whole}"
    );
    let (x, _) = part("input", 0..4);
    let (h, shape) = part("rnn.h_n", 0..2);
    let (c, _) = part("rnn.c_n", 0..2);
    let written = folder.path("from_state.npy");
    let [given_h, given_c] = [format!("rnn.h={h}"), format!("rnn.c={c}")];
    let run_from = |given: &[&str], more: &[&str]| {
        let given = given.iter().flat_map(|file| ["--input", file]);
        run(["verify", &model, "--device", "cpu", "--input", &x].into_iter().chain(given).chain(more.iter().copied()))
    };
    let from_state = run_from(&[&given_h, &given_c], &["--output", &written]);
    assert_eq!(from_state.code, 0, "{from_state:?}");
    assert_eq!(run_from(&[&given_h, &given_c], &["--expected", &written]).code, 0);
    // Negative control: a run from zeros has another answer.
    let from_zeros = run_from(&[&given_h], &["--expected", &written]);
    assert!(from_zeros.code == 1 && from_zeros.stdout.contains("FAIL: not the expected output"), "{from_zeros:?}");
    let narrow = folder.file("narrow.npy", npy(&[1, shape[1], shape[2]], &vec![0.0; shape[1] * shape[2]]));
    let narrow = format!("rnn.h={narrow}");
    refusal(["verify", &model, "--input", &x, "--input", &narrow], &["narrow.npy", "expected [2, 3, 7] for `rnn.h`"]);
    let unknown = format!("gru.h={h}");
    refusal(["verify", &model, "--input", &x, "--input", &unknown], &["`rnn.h`", "got `gru.h`"]);
}

/// A copy of a golden with `axes` as those of its file.
fn with_file_axes(folder: &Folder, golden: &str, axes: &str) -> String {
    let bytes = std::fs::read(repository(golden)).unwrap();
    let (_, header) = safetensors::SafeTensors::read_metadata(&bytes).unwrap();
    let mut metadata = header.metadata().clone().unwrap();
    metadata.insert("gatefold.file_axes".into(), axes.into());
    let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap().tensors();
    folder.file("model.safetensors", safetensors::serialize(tensors, Some(metadata)).unwrap())
}

/// States by the names of the file: both directions in one tensor, the second first.
#[test]
fn states_have_the_names_of_the_models_file() {
    let golden = repository("tests/goldens/lstm_bidirectional.golden.safetensors");
    let folder = Folder::new("verify_file_states");
    let rows = |part: &str| {
        let row = |row| format!(r#"{{"layer": "rnn", "part": "{part}", "row": {row}}}"#);
        format!("[{}, {}]", row(1), row(0))
    };
    let axes = format!(
        r#"{{"input": {{"name": "x", "axes": ["time", "batch", "feature"]}},
            "output": {{"name": "y", "axes": ["time", "batch", "feature"]}},
            "states": [{{"name": "h0", "rows": {h}}}], "final_states": [{{"name": "cn", "rows": {c}}}]}}"#,
        h = rows("h"),
        c = rows("c")
    );
    let model = with_file_axes(&folder, "tests/goldens/lstm_bidirectional.safetensors", &axes);
    let shown = answer(["inspect", &model]);
    assert!(shown.contains("the file's input `h0` [2, B, N] is the state rnn.h[1], rnn.h"), "{shown}");
    let swapped = |name: &str| {
        let (shape, numbers) = array(&golden, name);
        let (first, second) = numbers.split_at(numbers.len() / 2);
        (shape.clone(), [second, first].concat())
    };
    let file = |name: &str, (shape, numbers): (Vec<usize>, Vec<f32>)| folder.file(name, npy(&shape, &numbers));
    let c = format!("cn={}", file("c.npy", swapped("rnn.c_n")));
    let verify = ["verify", &model, "--device", "cpu", "--input", &golden, "--expected"];
    let right = answer(verify.iter().chain(&[c.as_str()]));
    assert!(right.contains("pass: the expected output") && right.contains("cn"), "{right}");
    // The control: the rows in the other order.
    let unswapped = format!("cn={}", file("c_unswapped.npy", array(&golden, "rnn.c_n")));
    assert_eq!(run(verify.iter().chain(&[unswapped.as_str()])).code, 1);
    let [own, ours] = [("h0", swapped("rnn.h_n")), ("rnn.h", array(&golden, "rnn.h_n"))].map(|(name, state)| {
        let state = format!("{name}={}", file("h.npy", state));
        let written = folder.path(&format!("{name}.out.npy"));
        answer(["verify", &model, "--device", "cpu", "--input", &golden, "--input", &state, "--output", &written]);
        std::fs::read(written).unwrap()
    });
    assert_eq!(own, ours, "one state by two names");
    // The first input and the output have the file's names, too.
    let named = |x: &str, y: &str| {
        let (x, y) = (
            format!("{x}={}", file("x.npy", array(&golden, "input"))),
            format!("{y}={}", file("y.npy", array(&golden, "output"))),
        );
        run(["verify", &model, "--device", "cpu", "--input", &x, "--expected", &y])
    };
    assert_eq!([named("x", "y").code, named("input", "output").code, named("y", "y").code], [0, 0, 2]);
    let narrow = format!("h0={}", file("narrow.npy", (vec![1, 1], vec![0.0])));
    refusal(["verify", &model, "--input", &golden, "--input", &narrow], &["narrow.npy", "`h0`: expected [2, 3, 7]"]);
}

/// Without `--steps`, T is what the model is made for; a model without numbers for negative inputs is given none.
#[test]
fn random_inputs_are_such_as_the_model_can_read() {
    let folder = Folder::new("verify_random");
    let model = |file: &str, layers: &str| {
        let layers =
            format!(r#"{{"format": 1, "layers": [{{"type": "input", "name": "x", "input_size": 3}}, {layers}]}}"#);
        let metadata = std::collections::HashMap::from([("gatefold".to_owned(), layers)]);
        let none = std::collections::HashMap::<String, safetensors::tensor::TensorView<'_>>::new();
        folder.file(file, safetensors::serialize(none, Some(metadata)).unwrap())
    };
    let flat = model("flat.safetensors", r#"{"type": "reshape", "name": "flat", "in_steps": 6, "out_steps": 1}"#);
    let verified = answer(["verify", &flat, "--device", "cpu"]);
    assert!(verified.contains("T = 6,") && verified.contains("pass: all"), "{verified}");
    answer(["plan", &flat, "--device", "cpu"]);
    refusal(["verify", &flat, "--device", "cpu", "--steps", "20"], &["expected 6 timesteps, got 20"]);
    let root = model("root.safetensors", r#"{"type": "activation", "name": "root", "activation": "sqrt"}"#);
    let verified = answer(["verify", &root, "--device", "cpu"]);
    assert!(verified.contains("T = 20, B = 3, seed 0, no negative numbers"), "{verified}");
    let negative = folder.file("negative.npy", npy(&[1, 1, 3], &[-1.0, 4.0, 9.0]));
    let nan = run(["verify", &root, "--device", "cpu", "--input", &negative]);
    assert!(nan.code == 1 && nan.stdout.contains("the f64 reference itself has NaN"), "{nan:?}");
}

/// A model whose file has other axes than a run: its own order is the default, and a run's is there for the asking.
#[test]
fn arrays_are_in_the_order_of_the_models_file() {
    let golden = repository("tests/goldens/keras_bidirectional.golden.safetensors");
    let axes = r#"{"input": {"name": "x", "axes": ["time", "batch", "feature"]},
        "output": {"name": "y", "axes": ["time", "direction", "batch", "feature"]}}"#;
    let folder = Folder::new("verify_axes");
    let model = with_file_axes(&folder, "tests/goldens/keras_bidirectional.safetensors", axes);
    let shown = answer(["inspect", &model]);
    for line in [
        "the file's input `x` is [T, B, N]; a run has [B, T, N]",
        "the file's output `y` is [T, D, B, N]; a run has [B, T, N]",
    ] {
        assert!(shown.contains(line), "{line} in\n{shown}");
    }
    let (shape, input) = array(&golden, "input");
    let (_, output) = array(&golden, "output");
    let [batch, steps, width] = shape[..] else { panic!("{shape:?}") };
    let units = output.len() / (batch * steps * 2);
    // Time first, and directions apart.
    let mut of_file = (Vec::new(), Vec::new());
    for t in 0..steps {
        for b in 0..batch {
            of_file.0.extend(&input[(b * steps + t) * width..][..width]);
        }
        for d in 0..2 {
            for b in 0..batch {
                of_file.1.extend(&output[((b * steps + t) * 2 + d) * units..][..units]);
            }
        }
    }
    let x = folder.file("x.npy", npy(&[steps, batch, width], &of_file.0));
    let y_shape = [steps, 2, batch, units];
    let y = folder.file("y.npy", npy(&y_shape, &of_file.1));
    let written = folder.path("written.npy");
    let of_file = ["verify", &model, "--device", "cpu", "--input", &x, "--expected", &y, "--output", &written];
    let passed = answer(of_file);
    assert!(passed.contains("pass: the expected output") && passed.contains("11 x 2 x 3 x 7"), "{passed}");
    // What it wrote is what it expects, and in the order of a run it has another shape.
    let again = answer(["verify", &model, "--device", "cpu", "--input", &x, "--expected", &written]);
    assert!(again.contains("11 x 2 x 3 x 7"), "{again}");
    let of_run = ["--axes", "run", "--input", &golden, "--output", &written];
    let of_run = [&["verify", &model, "--device", "cpu", "--expected", &golden], &of_run[..]].concat();
    let passed = answer(&of_run);
    assert!(passed.contains("pass: the expected output") && passed.contains("3 x 11 x 14"), "{passed}");
    let again = ["verify", &model, "--device", "cpu", "--axes", "run", "--input", &golden, "--expected", &written];
    assert!(answer(again).contains("3 x 11 x 14"));
    // The control: the same array in the wrong order is another input.
    let wrong = run(["verify", &model, "--device", "cpu", "--axes", "run", "--input", &x, "--expected", &golden]);
    assert!(wrong.code == 2 && wrong.stderr.contains("expected [11, 3, 14] for `output`"), "{wrong:?}");
}
