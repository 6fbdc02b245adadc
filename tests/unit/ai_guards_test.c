/* Guards: each one stops what it is for, paraphrases pass, and the judgement is symmetric. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "ai/guards.h"

static void stops(enum guard guard, const char *a, const char *b)
{
    enum guard failed = GUARD_NONE, back = GUARD_NONE;

    if (ai_guards_agree(view_str(a), view_str(b), &failed) || ai_guards_agree(view_str(b), view_str(a), &back))
        fail_msg("agree: %s | %s", a, b);
    if (failed != guard || back != guard)
        fail_msg("%s and %s, not %s: %s | %s", ai_guard_name(failed), ai_guard_name(back), ai_guard_name(guard), a, b);
}

static void passes(const char *a, const char *b)
{
    enum guard failed = GUARD_NONE;

    if (!ai_guards_agree(view_str(a), view_str(b), &failed) || !ai_guards_agree(view_str(b), view_str(a), &failed))
        fail_msg("%s: %s | %s", ai_guard_name(failed), a, b);
}

static void each_guard(void **state)
{
    /* One pair for each guard, that nothing but the small difference tells apart. */
    (void)state;
    stops(GUARD_TEXT, "an \"open quote", "an open quote");
    stops(GUARD_LANGUAGE, "Was ist die Hauptstadt", "What is the capital");
    stops(GUARD_LANGUAGE, "\xd0\x9a\xd0\xb0\xd0\xba \xd0\xb4\xd0\xb5\xd0\xbb\xd0\xb0", "How are you");
    stops(GUARD_NUMBERS, "Subtract 5 from 12", "Subtract 12 from 5");
    stops(GUARD_NUMBERS, "Set it to 30 seconds", "Set it to 30 minutes");
    stops(GUARD_NUMBERS, "How long do 10 MB take", "How long do 10 Mb take");
    stops(GUARD_IDENTIFIERS, "What is foo_bar for", "What is fooBar for");
    stops(GUARD_IDENTIFIERS, "Open https://example.com/a now", "Open https://example.com/b now");
    stops(GUARD_NEGATION, "Which animals can fly", "Which animals can't fly");
    stops(GUARD_NEGATION, "Why is A fine and B not working", "Why is A not fine and B working");
    stops(GUARD_OPPOSITES, "How do I enable the firewall", "How do I disable the firewall");
    stops(GUARD_OPPOSITES, "Is the invoice paid", "Is the invoice unpaid");
    stops(GUARD_OPPOSITES, "Turn the light on", "Turn the light off");
    stops(GUARD_ENTITIES, "Convert euros to dollars", "Convert dollars to euros");
    stops(GUARD_ENTITIES, "Who was George Washington", "Who was George Harrison");
    stops(GUARD_ENTITIES, "Is it open on monday", "Is it open on sunday");
    stops(GUARD_QUANTITY, "Cancel the order", "Cancel every order");
    stops(GUARD_OWNER, "How do I reset my password", "How do I reset your password");
    stops(GUARD_OWNER, "Can I see you", "Can you see me");
    stops(GUARD_OWNER, "Can you tell me who I am", "Who are you");
    stops(GUARD_VERBS, "Must I renew it", "Should I renew it");
    stops(GUARD_VERBS, "You mustn't delete it", "You needn't delete it");
    stops(GUARD_VERBS, "Who is CEO of Nokia", "Who was CEO of Nokia");
    stops(GUARD_VERBS, "When does it open", "When will it open");
    stops(GUARD_QUANTITY, "Take it up to 3 times", "Take it over 3 times");
    stops(GUARD_ENTITIES, "Was ist das Essen", "Was ist das essen");
    stops(GUARD_ORDER, "Write a poem for my wife", "Write a poem about my wife");
    stops(GUARD_ORDER, "Do I have to turn it on", "Do I have to turn on it");
    stops(GUARD_VERBS, "What is a wont", "What is a won't");
    stops(GUARD_FORM, "Which lets work here", "Which let's work here");
    stops(GUARD_ORDER, "Does a teacher praise a pupil", "Does a pupil praise a teacher");
    stops(GUARD_ORDER, "Who borrowed money from anna", "Who borrowed money for anna");
    stops(GUARD_CONTENT, "How do I cook rice", "How do I cook pasta");
    stops(GUARD_FORM, "Rewrite this: I can't come", "Rewrite this: I cannot come");
}

static void paraphrases(void **state)
{
    /* Other function words, synonyms and politeness do not disturb the guards; 1,000 is 1000, and 5kg is 5 kilograms. */
    (void)state;
    passes("How do I reverse a list in Python?", "What is the way to reverse a list in Python?");
    passes("How do I remove a git branch?", "How can I delete a git branch?");
    passes("How do vaccines work?", "Please explain how vaccines work");
    passes("Where can I download my invoice?", "How do I download my invoice?");
    passes("Could you tell me how I undo a commit? Thank you!", "How do I undo a commit?");
    passes("Why doesn't it work", "Why does it not work");
    passes("Is 5kg more than 1,000 grams", "Is 5 kilograms more than 1000 grams");
}

static void odd_texts(void **state)
{
    /* Empty and long texts are not judged; a text agrees with itself. */
    static char big[GUARD_TEXT_MAX + 2];

    (void)state;
    memset(big, 'a', sizeof(big) - 1);
    assert_false(ai_guards_agree(VIEW(""), VIEW(""), NULL));
    assert_false(ai_guards_agree(view_str(big), view_str(big), NULL));
    passes("Hi \"you", "Hi \"you");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_guard),
        cmocka_unit_test(paraphrases),
        cmocka_unit_test(odd_texts),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
