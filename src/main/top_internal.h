/* doorstep top as its own files see it: top.c (the frame and its loop), top_ai.c (the AI gateway's part). */
#pragma once

#include "base/text.h"
#include "main/flat.h"

#define TOP_WIDTH_MAX 200

struct screen {
    struct text out;
    int rows, columns, used;
    bool ansi;
};

struct samples {
    struct flat before, now;
    double seconds;
};

/* Writes a line, cut to the width; nothing when the screen is full. */
void top_row(struct screen *screen, const char *format, ...) printf_like(2, 3);
/* 1234567 -> "1.23M" */
const char *top_short(double value, char memory[16]);
double top_rate(const struct samples *s, const char *path);

/* Nothing when there was no AI request. */
void top_draw_ai(struct screen *screen, const struct samples *s);
int top_ai_rows(const struct samples *s);
