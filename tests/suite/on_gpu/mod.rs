mod embed;
mod generate;
mod host;
mod matrix;
mod objects;
mod own_device;
mod strategies;
mod tuned;
