// Products are taken on matrix units, of factors rounded to f16; they are added up in f32.
enable f16;
enable wgpu_cooperative_matrix;
// Matrix units ask that all of a subgroup take the same branch. naga asks more, that all of a
// workgroup do, and files that under the name of another rule.
diagnostic(off, derivative_uniformity);
alias Real = f32;
