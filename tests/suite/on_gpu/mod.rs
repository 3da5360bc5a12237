mod embed;
mod generate;
mod host;
mod objects;
mod own_device;
mod pipeline_cache;
mod strategies;
mod tuned;
