//! The window's contents, drawn without a window on an adapter of this machine.

use egui_kittest::Harness;
use egui_kittest::kittest::Queryable as _;
use egui_kittest::wgpu::{WgpuTestRenderer, create_render_state, default_wgpu_setup};
use gatefold_egui::App;

#[test]
fn the_label_follows_the_text_on_the_device_that_egui_draws_with() {
    let egui = create_render_state(default_wgpu_setup(), eframe::egui_wgpu::RendererOptions::default());
    let app = App::new(&egui).unwrap();
    let builder = Harness::builder().with_size((560.0, 460.0)).renderer(WgpuTestRenderer::from_render_state(egui));
    let mut harness = builder.build_ui_state(|ui, app: &mut App| app.show(ui), app);
    harness.run();
    let image = harness.render().unwrap();
    if let Some(path) = std::env::var_os("GATEFOLD_IMAGE") {
        image.save(path).unwrap();
    }
    // Both colours of the states are there.
    let strong = |pixel: &[u8; 4], channel: usize| pixel[channel] > 140 && pixel[2 - channel] < 100;
    for channel in [0, 2] {
        assert!(image.pixels().any(|pixel| strong(&pixel.0, channel)), "channel {channel}");
    }
    for (text, label) in
        [("wonderful, touching and very funny", "positive"), ("a dull and boring waste of time", "negative")]
    {
        let edit = harness.get_by_role(eframe::egui::accesskit::Role::MultilineTextInput);
        edit.focus();
        harness.run();
        harness.key_press_modifiers(eframe::egui::Modifiers::COMMAND, eframe::egui::Key::A);
        harness.run();
        harness.get_by_role(eframe::egui::accesskit::Role::MultilineTextInput).type_text(text);
        harness.run();
        let (got, probability) = harness.state().answer().unwrap();
        assert_eq!(got, label, "{text}");
        assert!(probability > 0.5);
    }
}
