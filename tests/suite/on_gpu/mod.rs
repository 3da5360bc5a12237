mod embed;
mod events;
mod generate;
mod host;
mod objects;
mod own_device;
mod strategies;
mod tuned;
