//! `gatefold train --language-model`: a plain text in, a model that says what comes next.

use std::fs;

use crate::support::{Folder, answer, refusal, run};

fn text(folder: &Folder, name: &str, text: &[u8]) -> String {
    let path = folder.path(name);
    fs::write(&path, text).unwrap();
    path
}

/// The last perplexity of the validation text in the log.
fn last_perplexity(folder: &str) -> f64 {
    let log = fs::read_to_string(format!("{folder}/log.jsonl")).unwrap();
    let row: serde_json::Value = serde_json::from_str(log.lines().last().unwrap()).unwrap();
    row["validation_perplexity"].as_f64().unwrap()
}

#[test]
fn a_text_is_learned() {
    let folder = Folder::fresh("train_text");
    let sentence = "the cat sat on the mat.\n".repeat(120);
    // xorshift64
    let mut bits = 88_172_645_463_325_252u64;
    let mut letter = |_| {
        bits ^= bits << 13;
        bits ^= bits >> 7;
        bits ^= bits << 17;
        char::from(b'a' + u8::try_from(bits % 11).unwrap())
    };
    let letters: String = (0..sentence.len()).map(&mut letter).collect();
    let (sentence, letters) =
        (text(&folder, "sentence.txt", sentence.as_bytes()), text(&folder, "letters.txt", letters.as_bytes()));
    let trained = |data: &str, kind: &str, name: &str| {
        let (out, log) = (folder.path(&format!("{name}.safetensors")), folder.path(name));
        let args = [
            "train",
            "embedding:8,lstm:24,dense",
            "--language-model",
            kind,
            "--data",
            data,
            "--batch",
            "4",
            "--window",
            "16",
            "--epochs",
            "8",
            "--lr",
            "0.02",
            "--clip-norm",
            "1",
            "--prompt",
            "the cat",
            "--out",
            &out,
            "--log",
            &log,
        ];
        let run = run(args);
        assert_eq!(run.code, 0, "{run:?}");
        assert!(run.stdout.contains("perplexity") && run.stdout.contains("weights of epoch"), "{run:?}");
        assert!(run.stderr.contains("epoch 1: ") && run.stderr.contains("epoch 8: "), "{run:?}");
        (out, last_perplexity(&log), run)
    };
    let (out, perplexity, run) = trained(&sentence, "characters", "characters");
    assert!(perplexity < 1.1, "{perplexity}");
    let last = run.stderr.lines().last().unwrap();
    assert!(last.starts_with("epoch 8: the cat sat on the mat. the cat sat on the mat."), "{last}");
    let shown = answer(["inspect", &out]);
    assert!(shown.contains("split behind every character"), "{shown}");
    let (again, ..) = trained(&sentence, "characters", "again");
    assert_eq!(fs::read(&out).unwrap(), fs::read(&again).unwrap(), "the same seed gives the same file");
    let (_, of_words, _) = trained(&sentence, "words", "words");
    assert!(of_words < 1.2, "{of_words}");
    // A control: of letters without order nothing can be learned.
    let (_, of_letters, _) = trained(&letters, "characters", "letters");
    assert!(of_letters > 5.0, "{of_letters}");
}

#[test]
fn mistakes_are_named() {
    let folder = Folder::fresh("train_text_mistakes");
    let out = folder.path("out.safetensors");
    let good = text(&folder, "good.txt", "some words of a text, and more of them.\n".repeat(200).as_bytes());
    let short = text(&folder, "short.txt", b"too short");
    let bytes = text(&folder, "bytes.txt", b"fine\nnot \xff fine\n");
    let missing = folder.path("nowhere.txt");
    let cases: [(&str, &[&str], &[&str]); 9] = [
        (&missing, &[], &["nowhere.txt"]),
        (&short, &[], &["short.txt", "at least 4097 tokens"]),
        (&bytes, &[], &["bytes.txt, line 2", "UTF-8"]),
        (&good, &["--window", "0"], &["--window", "at least 1"]),
        (&good, &["--loss", "mse"], &["--loss", "cross-entropy"]),
        (&good, &["--prompt", ""], &["--prompt", "at least one token"]),
        (&good, &["--valid", "0", "--patience", "1"], &["--patience", "a validation text"]),
        (&good, &["--valid", "0.0001", "--patience", "1"], &["--patience", "2 tokens of validation text"]),
        (&good, &["--checkpoint", "run"], &["--checkpoint", "--language-model"]),
    ];
    for (data, more, expected) in cases {
        let args = ["train", "--language-model", "characters", "--data", data, "--out", &out];
        refusal(args.iter().chain(more), expected);
    }
    refusal(["train", "--data", &good, "--window", "8", "--out", &out], &["--language-model"]);
}
