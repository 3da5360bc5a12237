mod docs;
mod files;
mod formats;
mod plan;
mod shaders;
mod state_files;
mod validation;
