#pragma once // Named by naga's MSL; metal_stdlib has what is used.
