//! The window of [`gatefold_egui::App`].

use eframe::egui::vec2;
use eframe::{NativeOptions, Renderer, egui::ViewportBuilder};
use gatefold_egui::App;

fn main() -> eframe::Result {
    let viewport = ViewportBuilder::default().with_inner_size(vec2(560.0, 460.0));
    let options = NativeOptions { renderer: Renderer::Wgpu, viewport, ..NativeOptions::default() };
    eframe::run_native(
        "gatefold and egui",
        options,
        Box::new(|context| {
            let egui = context.wgpu_render_state.as_ref().ok_or("expected egui to draw with wgpu")?;
            Ok(Box::new(App::new(egui)?))
        }),
    )
}
