// A backend of type `kubernetes`, and the map of node selectors, which Wave's configuration has too.
import { resolve } from 'node:path';
import { z } from 'zod';
import { InvalidPlatform, parsePlatform } from '../oci/platform.ts';
import { duration, httpUrl, MAX_TIMER_MS } from './values.ts';

const NAME = /^[A-Za-z0-9](?:[A-Za-z0-9_.-]*[A-Za-z0-9])?$/;
const MAX_NAME = 63;
const PREFIX = /^[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?$/;
const MAX_PREFIX = 253;
/** Labels and annotations of Jobs that Veneer sets itself. */
const OWN = /^(?:veneer\/|app\.kubernetes\.io\/(?:managed-by|component)$)/;

/** The keys of the backend other than `type`, `name` and `platforms`. */
export function kubernetesFields() {
  return {
    /** Absent: the service account of the pod that Veneer runs in. */
    kubeconfig: path().optional(),
    context: z.string().min(1).optional(),
    namespace: objectName().optional(),
    /** How pods reach Veneer; default: `publicUrl`. */
    callbackUrl: httpUrl()
      .refine(({ pathname }) => pathname === '/', 'must have no path: image names cannot include one')
      .optional(),
    nodeSelector: nodeSelectors().optional(),
    /** Wave's spelling of it. */
    'node-selector': nodeSelectors().optional(),
    /** `each`: one Job for each platform. `one`: one for all of them, on a node with emulation. */
    jobs: z.enum(['each', 'one']).default('each'),
    image: z.string().min(1).max(512).optional(),
    security: z.enum(['auto', 'rootless', 'userns', 'privileged']).default('auto'),
    scheduleTimeout: duration({ minMs: 1000, maxMs: MAX_TIMER_MS }).prefault('5m'),
    serviceAccount: objectName().optional(),
    priorityClass: objectName().optional(),
    labels: ownLabels(),
    annotations: z.record(labelName(), z.string().max(4096)).default({}),
    tolerations: z
      .array(
        z.strictObject({
          key: z.string().optional(),
          operator: z.enum(['Exists', 'Equal']).optional(),
          value: z.string().optional(),
          effect: z.enum(['NoSchedule', 'PreferNoSchedule', 'NoExecute']).optional(),
          tolerationSeconds: z.int().nonnegative().optional(),
        }),
      )
      .max(50)
      .default([]),
    /** In the format of the Kubernetes API, which validates it. */
    affinity: z.record(z.string(), z.unknown()).optional(),
    resources: z
      .strictObject({
        requests: quantities().prefault({ cpu: '250m', memory: '512Mi' }),
        limits: quantities().prefault({}),
      })
      .prefault({}),
    storage: storage(),
  };
}

/** As the builder expects it, with all spellings resolved. */
export function clusterOf<T extends Fields>({ scheduleTimeout, nodeSelector, 'node-selector': alias, ...rest }: T) {
  return { ...rest, nodeSelector: nodeSelector ?? alias, scheduleTimeoutMs: scheduleTimeout };
}

type Fields = z.output<z.ZodObject<ReturnType<typeof kubernetesFields>>>;

/** For a backend that was detected, not configured. */
export function defaultCluster() {
  return clusterOf(z.strictObject(kubernetesFields()).parse({}));
}

/** Labels by platform, `noarch` or `default`; written as `name=value`, separated by commas. */
export function nodeSelectors() {
  return z
    .record(z.string(), selectorLabels())
    .refine(map => Object.keys(map).length > 0, 'expected at least one platform')
    .superRefine((map, context) => {
      for (const key of Object.keys(map)) {
        const fault = findKeyFault(key);
        if (fault !== undefined) context.addIssue({ code: 'custom', path: [key], message: fault });
      }
    });
}

function findKeyFault(key: string): string | undefined {
  if (key === 'noarch' || key === 'default') return undefined;
  try {
    parsePlatform(key);
    return undefined;
  } catch (error) {
    if (!(error instanceof InvalidPlatform)) throw error;
    return `${error.message}, or noarch, or default`;
  }
}

function selectorLabels() {
  return z.string('expected labels such as service=wave-build').transform((text, context) => {
    const pairs = text.split(',').map(pair => pair.trim().split('='));
    const isGood = pairs.every(
      ([name = '', value, ...rest]) =>
        isLabelName(name) && value !== undefined && isLabelValue(value) && rest.length === 0,
    );
    if (isGood) return Object.fromEntries(pairs.map(([name = '', value = '']) => [name, value]));
    const message = `"${text.slice(0, 100)}" is not a list of labels; expected name=value, such as service=wave-build, separated by commas`;
    context.addIssue({ code: 'custom', message });
    return z.NEVER;
  });
}

function ownLabels() {
  const name = labelName().refine(text => !OWN.test(text), 'is reserved: Veneer finds its Jobs by it');
  return z.record(name, z.string().refine(isLabelValue, 'is no value of a label')).default({});
}

function labelName() {
  return z.string().refine(isLabelName, 'is not the name of a label; expected one such as team or example.com/team');
}

function isLabelName(text: string): boolean {
  const words = text.split('/');
  const [prefix, name = ''] = words.length === 1 ? [undefined, ...words] : words;
  const isPrefix = prefix === undefined || (prefix.length <= MAX_PREFIX && PREFIX.test(prefix));
  return words.length <= 2 && isPrefix && name.length <= MAX_NAME && NAME.test(name);
}

function isLabelValue(text: string): boolean {
  return text === '' || (text.length <= MAX_NAME && NAME.test(text));
}

function objectName() {
  const isName = (text: string) => text.length <= MAX_PREFIX && PREFIX.test(text);
  return z.string().refine(isName, 'is not a valid name of a Kubernetes object');
}

function quantities() {
  const quantity = z.string().regex(/^\d+(?:\.\d+)?(?:m|k|[KMGTPE]i?)?$/, 'expected a quantity such as 500m, 2 or 4Gi');
  return z.record(labelName(), quantity);
}

/** The storage in which pods work. */
function storage() {
  const subPath = z
    .string()
    .refine(text => !text.startsWith('/') && !text.split('/').includes('..'), 'is not a path inside the volume')
    .default('');
  return z
    .union(
      [
        z.strictObject({ emptyDir: z.strictObject({ size: z.string().optional() }) }).transform(({ emptyDir }) => ({
          kind: 'emptyDir' as const,
          size: emptyDir.size,
        })),
        z.strictObject({ claim: objectName(), subPath }).transform(each => ({ kind: 'claim' as const, ...each })),
        z
          .strictObject({ hostPath: z.string().startsWith('/') })
          .transform(each => ({ kind: 'hostPath' as const, ...each })),
      ],
      'expected { emptyDir: { size: 20Gi } }, { claim: NAME, subPath: PATH } or { hostPath: /path }',
    )
    .prefault({ emptyDir: {} });
}

/** Made absolute. */
function path() {
  return z
    .string()
    .min(1)
    .transform(text => resolve(text));
}
