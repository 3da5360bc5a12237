mod docs;
mod files;
mod plan;
mod shaders;
mod validation;
