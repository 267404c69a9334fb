/* A job named gpt, brought to where a test begins; its calls. */
#ifndef UNIT_COORDINATOR_GPT_H
#define UNIT_COORDINATOR_GPT_H

#include "tests/unit/coordinator/lab.h"

#define RANK(state) ((int)RETILE__V1__RANK_STATE__RANK_##state)

extern const char gpt_spec[];  /* two ranks */
extern const char gpt_store[]; /* the id of the host's */

char *text(const char *fixed); /* for a field of a message */
void submit(struct lab *lab, const char *name);
void open_save(struct lab *lab, uint64_t generation, uint64_t step);
void vote(struct lab *lab,
          uint64_t attempt,
          uint64_t generation,
          uint64_t step,
          const char *layout,
          const char *mesh);
void rescale(struct lab *lab, const char *id, const char *to, bool dry);
/* gpt runs as generation 1 on two of the four devices of host h. */
void run_gpt(struct lab *lab, struct lab_status *status);
/* A whole save of it, published as @number. */
void save(struct lab *lab,
          struct lab_status *status,
          uint64_t number,
          uint64_t generation,
          uint64_t step);

#endif
