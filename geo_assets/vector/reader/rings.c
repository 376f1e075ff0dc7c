/* Which rings are simple beyond doubt, told from their coordinates in doubles.

   Here: sufficient conditions, in C, as no library offers them for arrays of coordinates and numpy takes as long for
   pairs of edges as GEOS. Not here: why a polygon of a simple ring is valid, and who asks (simple.py); how this gets to
   Python (rings.py) and is compiled (scripts/hatch_build.py). What is not proven here is not therefore invalid.

   Signs. A determinant of differences, a*b - c*d, computed in doubles differs from the exact one by at most BOUND times
   |a*b| + |c*d| (Shewchuk, Adaptive Precision Floating-Point Arithmetic and Fast Robust Geometric Predicates, 1997,
   section 4.3, the first stage of orient2d; a sum has the same bound as a difference), provided that nothing overflows
   or underflows: coordinates are below FAR, and TINY is far above the smallest product that has full precision. So a
   value beyond the bound has the sign of the exact one. The compiler must neither contract nor reorder:
   -ffp-contract=off, and no -ffast-math.

   Star-shaped. If a ring turns about some centre c always in one direction and once, the directions from c to its
   vertices increase strictly and each once, so two edges have no point in common but that of neighbours. It turns in
   one direction if the orientation of (v[i], v[i+1], c) has the same sign for every edge. It turns once if the line
   through c to the right is crossed upwards once: each edge turns by less than half a turn, so none passes over a half
   plane, and each full turn goes from below (y < c.y) to above (y >= c.y) exactly once. Whether y is below c.y is exact:
   a difference of two doubles is zero only if they are equal.

   Pairs of edges. A ring of three edges or more, no vertex twice in a row, is simple if neighbours have only their
   common vertex in common and all other pairs nothing. Neighbours a-b, b-c do if a, b and c are not on one line, or if
   they turn by less than a right angle, (b-a).(c-b) > 0. Others do if their boxes have nothing in common, or if both
   ends of one are strictly on the same side of the line through the other. Boxes of BLOCK edges are compared first.

   It depends on nothing, not even on the C library. */

#include <stddef.h>
#include <stdint.h>

const char built_from[] = BUILT_FROM; /* see scripts/hatch_build.py */

#define EPSILON 0x1p-53 /* half the distance from 1 to the next double */
#define BOUND ((3 + 16 * EPSILON) * EPSILON)
#define TINY 1e-250
#define FAR 1e12

#define BLOCK 8
#define MOST 4096 /* vertices of a ring that is looked at; GEOS, which sorts, is as fast for longer ones */

struct box {
    double xmin, ymin, xmax, ymax;
};

/* Memory that the caller lends, once for many rings. */
struct scratch {
    double x[MOST + 1], y[MOST + 1];
    struct box edge[MOST], block[MOST / BLOCK + 1];
};

static inline double magnitude(double value) { return __builtin_fabs(value); }
static inline double least(double a, double b) { return a < b ? a : b; }
static inline double greatest(double a, double b) { return a > b ? a : b; }

/* The sign of p + q, each of which is a product of differences; 0 if it is not beyond doubt. */
static inline int sign(double p, double q)
{
    double sum = p + q, unsure = BOUND * (magnitude(p) + magnitude(q)) + TINY;
    return (sum > unsure) - (sum < -unsure);
}

/* On which side of the line through vertices i and j (x, y) is. */
static inline int side(const struct scratch *s, int i, int j, double x, double y)
{
    return sign((s->x[i] - x) * (s->y[j] - y), -((s->y[i] - y) * (s->x[j] - x)));
}

/* Whether both ends of edge j are strictly on one side of the line through edge i. */
static inline int beside(const struct scratch *s, int i, int j)
{
    int one = side(s, i, i + 1, s->x[j], s->y[j]);
    return one && one == side(s, i, i + 1, s->x[j + 1], s->y[j + 1]);
}

static inline struct box around(struct box a, struct box b)
{
    return (struct box){least(a.xmin, b.xmin), least(a.ymin, b.ymin), greatest(a.xmax, b.xmax), greatest(a.ymax, b.ymax)};
}

static inline int apart(const struct box *a, const struct box *b)
{
    return (a->xmin > b->xmax) | (a->xmax < b->xmin) | (a->ymin > b->ymax) | (a->ymax < b->ymin);
}

/* Copy a ring without vertices that are repeated, and make the boxes. Returns the number of its edges; 0 if it is not
   closed, too short or too long, or not finite. */
static int take(struct scratch *s, const double *x, const double *y, int64_t count)
{
    int n = 0, blocks = 0;
    if (count < 4 || count > MOST || x[0] != x[count - 1] || y[0] != y[count - 1])
        return 0;
    for (int64_t k = 0; k < count; k++) {
        if (!(magnitude(x[k]) < FAR && magnitude(y[k]) < FAR))
            return 0;
        if (n && x[k] == s->x[n - 1] && y[k] == s->y[n - 1])
            continue;
        s->x[n] = x[k];
        s->y[n++] = y[k];
    }
    for (int i = 0; i < n - 1; i++) {
        struct box from = {s->x[i], s->y[i], s->x[i], s->y[i]}, to = {s->x[i + 1], s->y[i + 1], s->x[i + 1], s->y[i + 1]};
        s->edge[i] = around(from, to);
        if (i % BLOCK == 0)
            s->block[blocks++] = s->edge[i];
        else
            s->block[blocks - 1] = around(s->block[blocks - 1], s->edge[i]);
    }
    return n > 3 ? n - 1 : 0;
}

static int is_star(const struct scratch *s, int edges)
{
    struct box all = s->block[0];
    int turn = 0, ups = 0;
    for (int b = 1; b * BLOCK < edges; b++)
        all = around(all, s->block[b]);
    double x = (all.xmin + all.xmax) / 2, y = (all.ymin + all.ymax) / 2;
    for (int i = 0; i < edges; i++) {
        int now = side(s, i, i + 1, x, y);
        if (!now || now == -turn)
            return 0;
        turn = now;
        ups += s->y[i] < y && s->y[i + 1] >= y;
    }
    return ups == 1;
}

static int turns_well(const struct scratch *s, int edges)
{
    for (int i = 0; i < edges; i++) {
        int j = i + 1 < edges ? i + 1 : 0;
        double along = (s->x[i + 1] - s->x[i]) * (s->x[j + 1] - s->x[j]);
        double across = (s->y[i + 1] - s->y[i]) * (s->y[j + 1] - s->y[j]);
        if (sign(along, across) <= 0 && !side(s, i, i + 1, s->x[j + 1], s->y[j + 1]))
            return 0;
    }
    return 1;
}

/* Whether no edge of block a meets one of block b that is no neighbour; a is not after b. */
static int blocks_apart(const struct scratch *s, int edges, int a, int b)
{
    int end_a = (a + 1) * BLOCK < edges ? (a + 1) * BLOCK : edges;
    int end_b = (b + 1) * BLOCK < edges ? (b + 1) * BLOCK : edges;
    for (int i = a * BLOCK; i < end_a; i++) {
        if (apart(&s->edge[i], &s->block[b]))
            continue;
        for (int j = i + 2 > b * BLOCK ? i + 2 : b * BLOCK; j < end_b; j++) {
            int neighbours = i == 0 && j == edges - 1;
            if (!apart(&s->edge[i], &s->edge[j]) && !neighbours && !beside(s, i, j) && !beside(s, j, i))
                return 0;
        }
    }
    return 1;
}

static int edges_apart(const struct scratch *s, int edges)
{
    for (int a = 0; a * BLOCK < edges; a++)
        for (int b = a; b * BLOCK < edges; b++)
            if (!apart(&s->block[a], &s->block[b]) && !blocks_apart(s, edges, a, b))
                return 0;
    return 1;
}

/* Bytes that simple_rings needs to be lent. */
size_t simple_rings_scratch(void) { return sizeof(struct scratch); }

/* Tell of each ring, counts[r] vertices from starts[r] on, whether it is simple beyond doubt: 1 in proven[r], else 0. */
void simple_rings(size_t rings, const double *x, const double *y, const int64_t *starts, const int64_t *counts,
                  struct scratch *scratch, uint8_t *proven)
{
    for (size_t r = 0; r < rings; r++) {
        int edges = take(scratch, x + starts[r], y + starts[r], counts[r]);
        proven[r] = edges && (is_star(scratch, edges) || (turns_well(scratch, edges) && edges_apart(scratch, edges)));
    }
}
