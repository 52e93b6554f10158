// What a cluster says, in words for people.
import type { V1Job, V1Pod } from '@kubernetes/client-node';
import { expect, test } from 'vitest';
import {
  describeDisruption,
  describeEnd,
  describeExit,
  describeRefusal,
  describeWait,
  findDigest,
  hasBegun,
  hasEnded,
  type RequestedResources,
  type Seen,
} from '../../../../src/builds/backends/kubernetes/outcome.ts';

const ASKED: RequestedResources = {
  platforms: 'linux/s390x',
  selector: { service: 'wave-build-s390x' },
  image: 'registry.example/buildkit:1',
  security: 'rootless',
  namespace: 'builds',
  memoryLimit: '64Mi',
  timeoutMs: 5000,
  callbackUrl: 'http://veneer:8080',
};

type State = NonNullable<NonNullable<NonNullable<V1Pod['status']>['containerStatuses']>[number]['state']>;

function seen(parts: {
  readonly pod?: V1Pod['status'];
  readonly job?: V1Job['status'];
  readonly warning?: string;
}): Seen {
  const { pod, job, warning } = parts;
  const [reason, message] = warning?.split(': ') ?? [];
  const about = { involvedObject: {}, metadata: {}, ...(reason !== undefined && { reason }) };
  return {
    job: { ...(job && { status: job }) },
    pod: pod && { status: pod },
    warning: warning === undefined ? undefined : { ...about, ...(message !== undefined && { message }) },
  };
}

const container = (state: State): V1Pod['status'] => ({
  containerStatuses: [{ name: 'build', state, image: '', imageID: '', ready: false, restartCount: 0 }],
});
const unscheduled = (message: string): V1Pod['status'] => ({
  conditions: [{ type: 'PodScheduled', status: 'False', reason: 'Unschedulable', message }],
});
const ended = (type: 'Complete' | 'Failed', reason?: string): V1Job['status'] => ({
  conditions: [{ type, status: 'True', ...(reason !== undefined && { reason }) }],
});

test.each<[string, Parameters<typeof seen>[0], RegExp]>([
  [
    'a selector that no node has',
    {
      pod: unscheduled("0/2 nodes are available: 2 node(s) didn't match Pod's node affinity/selector. preemption: no"),
    },
    /^no node for linux\/s390x matches service=wave-build-s390x: 0\/2 nodes are available: 2 node\(s\) didn't match Pod's node affinity\/selector\.$/,
  ],
  [
    'nodes without room',
    {
      pod: unscheduled(
        "0/2 nodes are available: 1 Insufficient memory, 1 node(s) didn't match Pod's node affinity/selector.",
      ),
    },
    /^no node accepts the pod for linux\/s390x \(service=wave-build-s390x\): 0\/2 .* 1 Insufficient memory/,
  ],
  [
    'a node that has a taint',
    {
      pod: unscheduled(
        "0/2 nodes are available: 1 node(s) had untolerated taint(s), 1 node(s) didn't match Pod's node affinity/selector.",
      ),
    },
    /^no node accepts the pod for linux\/s390x \(service=wave-build-s390x\): 0\/2 .*untolerated taint/,
  ],
  [
    'an image that cannot be pulled',
    { pod: container({ waiting: { reason: 'ImagePullBackOff', message: 'Back-off pulling image: not found' } }) },
    /^the image registry\.example\/buildkit:1 cannot be pulled: Back-off/,
  ],
  [
    'a pod that cannot start',
    { pod: container({ waiting: { reason: 'CreateContainerConfigError', message: 'secret "x" not found' } }) },
    /^the pod cannot start: CreateContainerConfigError: secret "x" not found$/,
  ],
  ['a quota', { warning: 'FailedCreate: exceeded quota' }, /^the pod cannot be created: exceeded quota$/],
  [
    'a volume',
    { pod: {}, warning: 'FailedMount: no such claim' },
    /^a volume of the pod is not available: no such claim$/,
  ],
])('a wait for %s is reported', (_, parts, words) => {
  expect(describeWait(seen(parts), ASKED)).toMatch(words);
});

test('a pod that starts as it should is no matter', () => {
  expect(describeWait(seen({ pod: container({ waiting: { reason: 'ContainerCreating' } }) }), ASKED)).toBeUndefined();
  expect(describeWait(seen({ pod: container({ running: {} }), warning: 'FailedMount: once' }), ASKED)).toBeUndefined();
  expect(describeWait(seen({ warning: 'Unhealthy: whatever' }), ASKED)).toBeUndefined();
});

test.each<[string, Parameters<typeof seen>[0], object]>([
  [
    'the deadline of the Job',
    { job: ended('Failed', 'DeadlineExceeded') },
    { kind: 'timeout', reason: 'it did not finish within 5 s, the deadline of its Job' },
  ],
  [
    'the limit of memory',
    { job: ended('Failed'), pod: container({ terminated: { exitCode: 1, reason: 'OOMKilled' } }) },
    { kind: 'build', reason: 'out of memory: the limit is 64Mi' },
  ],
  [
    'an eviction',
    { job: ended('Failed'), pod: { reason: 'Evicted', message: 'The node was low on memory.' } },
    { kind: 'infrastructure', reason: 'the pod was evicted: The node was low on memory.' },
  ],
  [
    'an address that does not lead to us',
    { job: ended('Failed'), pod: container({ terminated: { exitCode: 90 } }) },
    { kind: 'infrastructure', reason: expect.stringContaining('cannot reach Veneer at http://veneer:8080') },
  ],
  [
    'a context that is not there',
    { job: ended('Failed'), pod: container({ terminated: { exitCode: 91 } }) },
    { kind: 'infrastructure', reason: expect.stringContaining('build context') },
  ],
  [
    'a volume that is not its own',
    { job: ended('Failed'), pod: container({ terminated: { exitCode: 92 } }) },
    {
      kind: 'infrastructure',
      reason: expect.stringMatching(/may not write to its storage as user 1000.*set security/),
    },
  ],
  [
    'a node that keeps namespaces to itself',
    { job: ended('Failed'), pod: container({ terminated: { exitCode: 93, message: 'newuidmap failed' } }) },
    {
      kind: 'infrastructure',
      reason: expect.stringMatching(
        /^the node does not allow a rootless pod to create namespaces: newuidmap failed; .*set security/,
      ),
    },
  ],
  [
    'a pod that never was',
    { job: ended('Failed', 'BackoffLimitExceeded') },
    { kind: 'infrastructure', reason: 'the pod failed: BackoffLimitExceeded' },
  ],
])('a failure by %s is reported', (_, parts, failure) => {
  expect(describeEnd(seen(parts), ASKED)).toEqual(failure);
});

test('what no waiting changes is reported at once, with what would', () => {
  const forbidden = seen({
    warning: 'FailedCreate: pods "x" is forbidden, as it violates PodSecurity "baseline:latest"',
  });
  expect(describeRefusal(forbidden, ASKED)).toMatch(
    /^the namespace builds does not admit pods with security: rootless: pods "x".*label pod-security\.kubernetes\.io\/enforce=privileged$/,
  );
  const sandbox = seen({ pod: {}, warning: 'FailedCreatePodSandBox: the runtime does not support user namespaces' });
  expect(describeRefusal(sandbox, { ...ASKED, security: 'userns' })).toMatch(
    /does not support user namespaces for pods.*set security/,
  );
  expect(describeRefusal(sandbox, ASKED)).toBeUndefined();
  expect(describeRefusal(seen({ warning: 'FailedCreate: exceeded quota' }), ASKED)).toBeUndefined();
});

test('what BuildKit ends with is for its log to tell', () => {
  const failed = seen({ job: ended('Failed', 'PodFailurePolicy'), pod: container({ terminated: { exitCode: 1 } }) });
  expect(describeEnd(failed, ASKED)).toBeUndefined();
  expect(describeExit(failed)).toBe('exit code 1');
});

test('a pod that lost its node says why', () => {
  const conditions = [
    { type: 'DisruptionTarget', status: 'True', reason: 'DeletionByTaintManager', message: 'deleting' },
  ];
  expect(describeDisruption({ status: { conditions } })).toBe(
    'the pod was disrupted: DeletionByTaintManager: deleting',
  );
  expect(describeDisruption({ status: {} })).toBeUndefined();
});

test('a pod that ended by itself is not heard of from its Job first, and one that was ended is', () => {
  const end = (exitCode: number, more: V1Pod['status'] = {}) =>
    seen({ pod: { ...container({ terminated: { exitCode } }), ...more } });
  const conditions = [{ type: 'DisruptionTarget', status: 'True' }];
  expect([0, 1, 90].map(code => hasEnded(end(code)))).toEqual([true, true, true]);
  expect([hasEnded(end(137)), hasEnded(end(1, { conditions })), hasEnded(end(1, { reason: 'Evicted' }))]).toEqual([
    false,
    false,
    false,
  ]);
  const { pod, ...rest } = end(1);
  const deleted = { ...pod, metadata: { deletionTimestamp: new Date() } };
  expect(hasEnded({ ...rest, pod: deleted })).toBe(false);
});

test('a Job has ended once its pod has said all', () => {
  const running = container({ running: {} });
  const done = container({ terminated: { exitCode: 0, message: 'sha256:0\n' } });
  expect(findDigest(seen({ pod: done }))).toBe('sha256:0');
  expect(hasEnded(seen({ job: ended('Complete'), pod: running }))).toBe(false);
  expect(hasEnded(seen({ job: ended('Complete'), pod: done }))).toBe(true);
  expect(hasEnded(seen({ job: ended('Failed') }))).toBe(true);
  expect(findDigest(seen({ job: ended('Complete'), pod: done }))).toBe('sha256:0');
  expect(findDigest(seen({ job: ended('Failed'), pod: running }))).toBeUndefined();
  expect([hasBegun(undefined), hasBegun({ status: {} }), hasBegun({ status: running ?? {} })]).toEqual([
    false,
    false,
    true,
  ]);
});
