mod api;
mod battery;
mod errors;
mod goldens;
mod kernels;
mod sentiment;
