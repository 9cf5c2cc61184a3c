/* Runs the network on stored inputs, on one and two threads, and compares with what fastconv computed:
 * the exit status is 0 if they agree. */
#include "@name@.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define IMAGES @images@
#define LIMIT @limit@ /* of the largest error, by the largest value */

@stored@
static int compare(const char *name, const @name@_real *found, const @name@_real *truth, int64_t n)
{
    double error = 0, largest = 0;
    int wrong = 0;
    for (int64_t i = 0; i < n; i++) {
        const double difference = fabs((double)found[i] - (double)truth[i]);
        if (isfinite(truth[i])) {
            if (fabs((double)truth[i]) > largest) largest = fabs((double)truth[i]);
            if (difference > error) error = difference;
            if (!isfinite(found[i])) wrong = 1;
        } else if (isnan(truth[i]) ? !isnan(found[i]) : isnan(found[i]) || found[i] != truth[i]) {
            wrong = 1;
        }
    }
    if (error > LIMIT * largest) wrong = 1;
    printf("@name@ %s: largest error %.1e of %.3g: %s\n", name, error, largest, wrong ? "FAIL" : "pass");
    return wrong;
}

int main(@main@)
{
    @name@_model *model = NULL;
    int64_t bytes = 0;
    void *workspace = NULL;
    int wrong = 0, status;
@outputs@
    status = @name@_init(&model@argument@);
    if (!status) status = @name@_workspace_size(IMAGES, 2, &bytes);
    if (!status && !(workspace = malloc((size_t)bytes))) status = @NAME@_NO_MEMORY;
    for (int threads = 1; !status && threads <= 2; threads++)
        status = @name@_run(model, IMAGES, @run@, workspace, bytes, threads);
    if (status) {
        printf("@name@: %s: FAIL\n", @name@_status_text(status));
        wrong = 1;
    } else {
@compares@
    }
    free(workspace);
    @name@_free(model);
    return wrong;
}
