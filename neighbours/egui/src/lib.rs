//! Sentiment of a text while it is typed: the network runs on the device that egui draws with.

use std::time::{Duration, Instant};

use eframe::egui::{self, Color32, Rect, RichText, Sense, TextEdit, Ui, vec2};
use eframe::egui_wgpu::RenderState;
use gatefold::{Classifier, Device, Input, Prediction, models};

/// The longest text whose states are drawn, in words.
const MOST_WORDS: usize = 40;

/// The window's contents.
pub struct App {
    classifier: Classifier,
    text: String,
    answer: gatefold::Result<Answer>,
}

struct Answer {
    prediction: Prediction,
    /// h of the LSTM after every word, `[T, 1, H]`, and H.
    states: (Vec<f32>, usize),
    time: Duration,
}

impl App {
    /// The network on the device of `egui`, which must be of the same version of wgpu ([`gatefold::wgpu`]).
    ///
    /// # Errors
    /// Those of [`Classifier::new`].
    pub fn new(egui: &RenderState) -> gatefold::Result<Self> {
        let device = Device::from_wgpu_adapter(&egui.adapter, egui.device.clone(), egui.queue.clone());
        let classifier = Classifier::new(&device, &models::sentiment()?)?;
        let mut app = Self {
            answer: Err(gatefold::Error::EmptyText { index: 1, got: String::new() }),
            classifier,
            text: "a warm, funny film with a bad ending".into(),
        };
        app.classify();
        Ok(app)
    }

    /// The answer's label and probability, if there is an answer.
    pub fn answer(&self) -> Option<(&str, f32)> {
        let answer = self.answer.as_ref().ok()?;
        Some((&answer.prediction.label, answer.prediction.probability()))
    }

    fn classify(&mut self) {
        let start = Instant::now();
        self.answer = self.classifier.classify(&[&self.text]).and_then(|predictions| {
            let time = start.elapsed();
            let mut ids = self.classifier.encode(&self.text);
            ids.truncate(MOST_WORDS);
            let shape = if self.classifier.session().network().batch_first() { [1, ids.len()] } else { [ids.len(), 1] };
            let trace = self.classifier.session().trace(Input::tokens(&ids, shape), None)?;
            // The stages are the embedding, the LSTM, and the layers behind it.
            let states = trace.stages.into_iter().nth(1).unwrap_or_default();
            let width = states.len() / ids.len();
            let prediction = predictions.into_iter().next();
            let prediction = prediction.ok_or(gatefold::Error::EmptyText { index: 1, got: String::new() })?;
            Ok(Answer { prediction, states: (states, width), time })
        });
    }

    /// Draws the window's contents.
    pub fn show(&mut self, ui: &mut Ui) {
        ui.heading("Sentiment");
        let label = ui.label("Write a sentence about a film.");
        let edit = TextEdit::multiline(&mut self.text).desired_rows(3).desired_width(f32::INFINITY);
        let edit = ui.add(edit).labelled_by(label.id);
        if edit.changed() {
            self.classify();
        }
        ui.add_space(8.0);
        match &self.answer {
            Err(error) => {
                ui.label(RichText::new(error.to_string()).weak());
            }
            Ok(answer) => {
                for (label, &probability) in self.classifier.labels().iter().zip(&answer.prediction.probabilities) {
                    bar(ui, label, probability);
                }
                ui.add_space(8.0);
                ui.label("State of the LSTM after each word, one row a unit: blue is below 0, orange above.");
                heat_map(ui, &answer.states.0, answer.states.1);
                ui.add_space(8.0);
                let device = self.classifier.session().device().info();
                ui.label(RichText::new(format!("{:.1} ms on {device}", answer.time.as_secs_f64() * 1e3)).weak());
            }
        }
    }
}

impl eframe::App for App {
    fn ui(&mut self, ui: &mut Ui, _: &mut eframe::Frame) {
        egui::CentralPanel::default().show(ui, |ui| self.show(ui));
    }
}

/// A label, its probability and a bar of that length.
fn bar(ui: &mut Ui, label: &str, probability: f32) {
    ui.horizontal(|ui| {
        ui.add_sized(vec2(80.0, 18.0), egui::Label::new(label));
        let width = (ui.available_width() - 60.0).max(20.0);
        let (rect, _) = ui.allocate_exact_size(vec2(width, 14.0), Sense::hover());
        ui.painter().rect_filled(rect, 2.0, ui.visuals().faint_bg_color);
        let filled = Rect::from_min_size(rect.min, vec2(rect.width() * probability, rect.height()));
        ui.painter().rect_filled(filled, 2.0, ui.visuals().selection.bg_fill);
        ui.label(format!("{:.1} %", probability * 100.0));
    });
}

/// Numbers `[T, 1, N]`, a column for each timestep; the largest has the strongest colour.
fn heat_map(ui: &mut Ui, numbers: &[f32], width: usize) {
    let steps = numbers.len() / width.max(1);
    if steps == 0 {
        return;
    }
    let (area, _) = ui.allocate_exact_size(vec2(ui.available_width(), 160.0), Sense::hover());
    let largest = numbers.iter().fold(f32::MIN_POSITIVE, |most, x| most.max(x.abs()));
    let cell = vec2((area.width() / steps as f32).min(24.0), area.height() / width as f32);
    for (step, row) in numbers.chunks_exact(width).enumerate() {
        for (unit, &number) in row.iter().enumerate() {
            let corner = area.min + vec2(step as f32 * cell.x, unit as f32 * cell.y);
            ui.painter().rect_filled(Rect::from_min_size(corner, cell), 0.0, color(number / largest));
        }
    }
}

/// Blue below 0, orange above; the stronger the further away.
fn color(number: f32) -> Color32 {
    let strength = (number.abs() * 255.0) as u8;
    if number < 0.0 {
        Color32::from_rgba_unmultiplied(60, 120, 230, strength)
    } else {
        Color32::from_rgba_unmultiplied(240, 140, 40, strength)
    }
}
