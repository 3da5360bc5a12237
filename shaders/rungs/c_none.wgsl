// For the cells that an invocation keeps nothing of between timesteps.

fn take_c(at: u32) {}

fn give_c(at: u32) {}
