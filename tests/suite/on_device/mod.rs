mod api;
mod battery;
mod cells;
mod errors;
mod goldens;
mod kernels;
mod layers;
mod sentiment;
