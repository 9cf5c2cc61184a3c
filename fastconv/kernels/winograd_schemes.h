/* Included once per element type, with T defined: outputs, taps and step of an axis, and of the
 * other. */

#define SCHEME(get) get(4, 3, 1, 4, 3, 1)
#include "winograd_template.h"
#define SCHEME(get) get(2, 3, 1, 2, 3, 1)
#include "winograd_template.h"
#define SCHEME(get) get(4, 5, 1, 4, 5, 1)
#include "winograd_template.h"
#define SCHEME(get) get(2, 5, 1, 2, 5, 1)
#include "winograd_template.h"
#define SCHEME(get) get(3, 4, 1, 3, 4, 1)
#include "winograd_template.h"
#define SCHEME(get) get(4, 3, 1, 4, 5, 1)
#include "winograd_template.h"
#define SCHEME(get) get(4, 5, 1, 4, 3, 1)
#include "winograd_template.h"
#define SCHEME(get) get(1, 1, 1, 4, 5, 1)
#include "winograd_template.h"
#define SCHEME(get) get(1, 1, 1, 6, 3, 1)
#include "winograd_template.h"
#define SCHEME(get) get(1, 1, 1, 4, 3, 1)
#include "winograd_template.h"
#define SCHEME(get) get(4, 5, 1, 1, 1, 1)
#include "winograd_template.h"
#define SCHEME(get) get(6, 3, 1, 1, 1, 1)
#include "winograd_template.h"
#define SCHEME(get) get(4, 3, 2, 4, 3, 2)
#include "winograd_template.h"
#define SCHEME(get) get(2, 3, 2, 2, 3, 2)
#include "winograd_template.h"
#define SCHEME(get) get(4, 2, 1, 4, 2, 1)
#include "winograd_template.h"
#define SCHEME(get) get(4, 1, 1, 4, 2, 1)
#include "winograd_template.h"
#define SCHEME(get) get(4, 2, 1, 4, 1, 1)
#include "winograd_template.h"
#define SCHEME(get) get(2, 2, 1, 2, 2, 1)
#include "winograd_template.h"
#define SCHEME(get) get(2, 1, 1, 2, 2, 1)
#include "winograd_template.h"
#define SCHEME(get) get(2, 2, 1, 2, 1, 1)
#include "winograd_template.h"

static const winograd_transforms *const JOIN(all, T)[] = {
    &LABEL(transforms, T, 4, 3, 1, 4, 3, 1),
    &LABEL(transforms, T, 2, 3, 1, 2, 3, 1),
    &LABEL(transforms, T, 4, 5, 1, 4, 5, 1),
    &LABEL(transforms, T, 2, 5, 1, 2, 5, 1),
    &LABEL(transforms, T, 3, 4, 1, 3, 4, 1),
    &LABEL(transforms, T, 4, 3, 1, 4, 5, 1),
    &LABEL(transforms, T, 4, 5, 1, 4, 3, 1),
    &LABEL(transforms, T, 1, 1, 1, 4, 5, 1),
    &LABEL(transforms, T, 1, 1, 1, 6, 3, 1),
    &LABEL(transforms, T, 1, 1, 1, 4, 3, 1),
    &LABEL(transforms, T, 4, 5, 1, 1, 1, 1),
    &LABEL(transforms, T, 6, 3, 1, 1, 1, 1),
    &LABEL(transforms, T, 4, 3, 2, 4, 3, 2),
    &LABEL(transforms, T, 2, 3, 2, 2, 3, 2),
    &LABEL(transforms, T, 4, 2, 1, 4, 2, 1),
    &LABEL(transforms, T, 4, 1, 1, 4, 2, 1),
    &LABEL(transforms, T, 4, 2, 1, 4, 1, 1),
    &LABEL(transforms, T, 2, 2, 1, 2, 2, 1),
    &LABEL(transforms, T, 2, 1, 1, 2, 2, 1),
    &LABEL(transforms, T, 2, 2, 1, 2, 1, 1),
};
