mod docs;
mod files;
mod formats;
mod plan;
mod shaders;
mod slots;
mod state_files;
mod validation;
