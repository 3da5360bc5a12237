// c of an LSTM whose unit an invocation has to itself for many timesteps: a private variable, where the rung says so.

var<private> c_kept: f32;

fn c_before(at: u32) -> f32 {
    if OWNS_UNIT {
        return c_kept;
    }
    return cell[at];
}

fn put_c(at: u32, c: f32) {
    if OWNS_UNIT {
        c_kept = c;
    } else {
        cell[at] = c;
    }
}

// Before the first timestep.
fn take_c(at: u32) {
    if OWNS_UNIT {
        c_kept = cell[at];
    }
}

// After the last timestep.
fn give_c(at: u32) {
    if OWNS_UNIT {
        cell[at] = c_kept;
    }
}
