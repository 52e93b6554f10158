// `veneer builds`, as it is typed.
import { afterEach, beforeEach, expect, test } from 'vitest';
import { createBuildsCommand } from '../../src/cli/builds.ts';
import type { ServiceCommandDeps } from '../../src/cli/service-command.ts';
import { BUILD_ID, type BuildService, depsOf, startBuildService } from './build-service.ts';
import { runCommand } from './run.ts';

const at = '2030-01-01T00:00:00Z';

let service: BuildService;

beforeEach(async () => {
  service = await startBuildService();
});

afterEach(() => service.close());

function run(args: readonly string[], deps: Partial<ServiceCommandDeps> = {}) {
  return runCommand(createBuildsCommand({ ...depsOf(service), ...deps }), args);
}

test('ls shows builds in columns', async () => {
  const { out } = await run(['ls']);
  expect(out.split('\n')).toEqual([
    'BUILD                  STATUS     CREATED               TOOK  PLATFORMS                IMAGE                          REASON',
    'bd-0123456789abcdef_1  succeeded  2030-01-01T00:00:00Z  13 s  linux/amd64,linux/arm64  local/builds:0123456789abcdef',
    '',
  ]);
});

test('ls shows what is not known yet as absent, and no escape sequences', async () => {
  service.build = { status: 'queued', duration: undefined, platforms: undefined, targetImage: 'a\u001b[2Jb' };
  const { out } = await run(['ls']);
  expect(out.split('\n')[1]?.split(/ {2,}/)).toEqual([BUILD_ID, 'queued', at, '-', '-', 'ab']);
});

test.each([
  ['in a word', 'cancelled', 'cancelled'],
  [
    'in several lines',
    '\u001b[31mexit code: 2\u001b[0m\n\tno such file (linux/arm64)\n',
    'exit code: 2 no such file (linux/arm64)',
  ],
  ['in as many characters as there is room for', '🚧'.repeat(120), '🚧'.repeat(120)],
  ['in too many', '🚧'.repeat(121), `${'🚧'.repeat(119)}…`],
  ['not at all', undefined, '-'],
])('ls shows in one line why a build failed that says so %s', async (_, reason, expected) => {
  service.build = { status: 'failed', reason };
  const { out } = await run(['ls']);
  const [headings, line, ...rest] = out.split('\n').map(each => each.split(/ {2,}/));
  expect([headings?.at(-1), line?.slice(5), rest]).toEqual([
    'REASON',
    ['local/builds:0123456789abcdef', expected],
    [['']],
  ]);
});

test('ls gives no reason of a build that did not fail', async () => {
  service.build = { status: 'running', reason: 'a builder was away' };
  expect((await run(['ls'])).out).not.toContain('a builder was away');
});

test('ls asks for a page, and gives it as JSON', async () => {
  const { out } = await run(['ls', '--limit', '5', '--status', 'failed', '--after', BUILD_ID, '--json']);
  expect(JSON.parse(out)).toMatchObject([{ buildId: BUILD_ID }]);
  expect(service.requests.at(-1)).toMatchObject({
    path: '/v1alpha1/builds',
    query: { limit: '5', status: 'failed', after: BUILD_ID },
  });
});

test('log follows a build to its end', async () => {
  service.log = [{ entries: [{ at, kind: 'output', platform: 'linux/arm64', text: 'hello' }], ends: 'end' }];
  expect(await run(['log', BUILD_ID])).toEqual({ out: `${at} linux/arm64 | hello\n`, err: '', exitCode: 0 });
});

test('log of a build that failed fails', async () => {
  service.build = { status: 'failed', reason: 'make: exit code 2' };
  const { err, exitCode } = await run(['log', BUILD_ID]);
  expect([err, exitCode]).toEqual([expect.stringContaining('failed: make: exit code 2; its log: http://'), 1]);
});

test('log --no-follow shows what there is', async () => {
  service.build = { status: 'running' };
  expect(await run(['log', BUILD_ID, '--no-follow'])).toEqual({ out: 'one line\nanother\n', err: '', exitCode: 0 });
});

test('cancel ends a build, and says what became of it', async () => {
  service.build = { status: 'failed', reason: 'cancelled by ada' };
  expect(await run(['cancel', BUILD_ID])).toEqual({
    out: '',
    err: `${BUILD_ID}: failed, cancelled by ada\n`,
    exitCode: 0,
  });
  expect(service.requests.at(-1)).toMatchObject({ method: 'POST', path: `/v1alpha1/builds/${BUILD_ID}/cancel` });
});

test('a copy is cancelled among the copies', async () => {
  await run(['cancel', 'mr-0123456789abcdef_1']);
  expect(service.requests.at(-1)?.path).toBe('/v1alpha1/mirrors/mr-0123456789abcdef_1/cancel');
});

test('retry prints the id of the new build alone', async () => {
  service.build = { status: 'queued' };
  expect(await run(['retry', BUILD_ID])).toEqual({
    out: 'bd-0123456789abcdef_2\n',
    err: 'bd-0123456789abcdef_2: queued\n',
    exitCode: 0,
  });
});

test('a build that is unknown is reported', async () => {
  service.refusal = () => Response.json({ message: `there is no build ${BUILD_ID}` }, { status: 404 });
  const { err, exitCode } = await run(['cancel', BUILD_ID]);
  expect([err, exitCode]).toEqual([`error: ${service.url.host} answered 404, there is no build ${BUILD_ID}\n`, 1]);
});

test.each([
  ['an id that is none', ['log', '../container'], 'expected the id of a build, such as bd-0123456789abcdef_1'],
  ['no id', ['cancel'], "missing required argument 'id'"],
  ['a limit of none', ['ls', '--limit', '0'], 'expected a number from 1 to 100'],
  ['a limit that is too large', ['ls', '--limit', '101'], 'expected a number from 1 to 100'],
  ['a status that is none', ['ls', '--status', 'done'], 'Allowed choices are queued, running, succeeded, failed'],
])('%s is refused, and nothing is asked', async (_, args, message) => {
  const { err, exitCode } = await run(args);
  expect([err, exitCode]).toEqual([expect.stringContaining(message), 1]);
  expect(service.requests).toEqual([]);
});
