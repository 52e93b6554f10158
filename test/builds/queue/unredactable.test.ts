// What cannot be searched for secrets: it is reported to nobody, and ends neither the service nor its next start.
import { expect, test } from 'vitest';
import { BuildFailure } from '../../../src/builds/execution.ts';
import { createFixture, ending, logOf, submit, until } from './fixture.ts';

const SECRET = 'canary-of-the-pattern';

function redact(text: string): string {
  if (text.includes('odd')) throw new Error(`invalid pattern: ${SECRET}`);
  return text;
}

test('a line that cannot be searched is left out, and the build continues', async () => {
  const fixture = await createFixture({ redact });
  const { id } = await submit(fixture, 'a');
  await until(() => fixture.works.length === 1);
  fixture.works[0]?.options.report({ kind: 'output', text: 'odd' });
  fixture.works[0]?.options.report({ kind: 'output', text: 'even' });
  fixture.works[0]?.succeed();
  expect(await ending(fixture, id)).toMatchObject({ status: 'succeeded' });
  expect((await logOf(fixture, id)).map(({ text }) => text)).toEqual([
    'a line was omitted: it could not be checked for secrets',
    'even',
    expect.stringMatching(/^succeeded/),
  ]);
});

test('a failure that cannot be searched ends its build without a reason, and the next one is built', async () => {
  const fixture = await createFixture({ redact });
  const { id } = await submit(fixture, 'a');
  await until(() => fixture.works.length === 1);
  fixture.works[0]?.fail(new BuildFailure({ kind: 'build', reason: `odd ${SECRET}` }));
  expect((await ending(fixture, id))?.failure).toEqual({
    kind: 'build',
    reason: 'the reason is withheld: it could not be checked for secrets',
  });
  const next = await submit(fixture, 'b');
  await until(() => fixture.works.length === 2);
  fixture.works[1]?.succeed();
  expect(await ending(fixture, next.id)).toMatchObject({ status: 'succeeded' });
});
