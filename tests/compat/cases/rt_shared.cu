// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
// compat: about = runtime API, shared runtime: the same program
// compat: flags = -cudart shared
#include "rt_basics.cu"
