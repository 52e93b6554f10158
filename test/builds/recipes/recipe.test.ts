// Recipes: the first that matches, filled with what was asked for, and never led out of its folder.
import { expect, test } from 'vitest';
import { InvalidRecipe } from '../../../src/builds/recipes/pattern.ts';
import { createRecipes, type RecipeOptions } from '../../../src/builds/recipes/recipe.ts';

const tool: RecipeOptions = {
  match: 'local/tools/{name}:{version}',
  containerFile: './recipes/tool.Containerfile',
  context: './recipes',
  args: { NAME: '{name}', VERSION: 'v{version}-{version}', PLAIN: '{name} {other-thing} {"a":1}' },
  labels: { 'org.example/{name}': '{name}' },
};

test('fills arguments, labels and paths with what was asked for', () => {
  const recipe: RecipeOptions = {
    ...tool,
    context: 'src/{name}',
    containerFile: '/etc/{name}/{version}.Containerfile',
  };
  expect(createRecipes([recipe], '/srv').find('local/tools/jq', '1.7')).toEqual({
    containerFile: '/etc/jq/1.7.Containerfile',
    context: '/srv/src/jq',
    args: { NAME: 'jq', VERSION: 'v1.7-1.7', PLAIN: 'jq {other-thing} {"a":1}' },
    labels: { 'org.example/{name}': 'jq' },
  });
});

test('gives all else of the recipe as it is', () => {
  const rest = { platforms: ['linux/arm64'], stage: 'out', secrets: ['npm'], ssh: ['default'], ttlMs: 1, timeoutMs: 2 };
  const recipe: RecipeOptions = { ...tool, ...rest, network: 'none', attestations: { sbom: true } };
  const found = createRecipes([recipe], '/srv').find('local/tools/jq', '1');
  expect(found).toMatchObject({ ...rest, network: 'none', attestations: { sbom: true } });
});

test('takes the first that matches', () => {
  const recipes = createRecipes(
    [{ ...tool, match: 'local/tools/jq:*', args: {}, labels: {}, stage: 'special' }, tool],
    '/',
  );
  expect(recipes.find('local/tools/jq', '1')?.stage).toBe('special');
  expect(recipes.find('local/tools/yq', '1')?.args.NAME).toBe('yq');
  expect(recipes.find('local/other/yq', '1')).toBeUndefined();
  expect([recipes.covers('local/tools/x'), recipes.covers('local/x')]).toEqual([true, false]);
});

test.each([
  ['a part of the tag that is ..', 'v{value}', 'recipes/{value}/Containerfile', 'v..'],
  ['a part of the tag that is .', 'v{value}', 'recipes/{value}/Containerfile', 'v.'],
  ['two halves of ..', 'v.{value}', 'recipes/.{value}/x', 'v..'],
  ['one that removes a folder', 'v{value}', 'recipes/a/{value}', 'v..'],
])('is for no name that leads a path out of its folder: %s', (_name, tag, path, given) => {
  const match = `local/{name}:${tag}`;
  const recipes = (options: Partial<RecipeOptions>) =>
    createRecipes([{ match, containerFile: 'f', ...options }], '/srv');
  expect(recipes({}).find('local/a', given)).toBeDefined();
  expect(recipes({ containerFile: path }).find('local/a', given)).toBeUndefined();
  expect(recipes({ context: path }).find('local/a', given)).toBeUndefined();
});

test('continues to the next recipe where a path of the first would be unsafe', () => {
  const unsafe = { match: 'local/{name}:v{version}', containerFile: 'r/{version}/f' };
  const recipes = createRecipes([unsafe, { match: 'local/*:*', containerFile: 'any' }], '/srv');
  expect(recipes.find('local/a', 'v..')?.containerFile).toBe('/srv/any');
});

test('takes paths of the operator as they are', () => {
  const recipes = createRecipes(
    [{ match: 'local/{name}:*', containerFile: '../up/{name}', context: '../up' }],
    '/srv/x',
  );
  expect(recipes.find('local/a', '1')).toMatchObject({ containerFile: '/srv/up/a', context: '/srv/up' });
});

test.each<[string, Partial<RecipeOptions>, string]>([
  [
    'an argument',
    { args: { A: '{nam}' } },
    'args.A has {nam}, but the pattern "local/tools/{name}:{version}" has {name}, {version}',
  ],
  ['a label', { labels: { a: '{x}' } }, 'labels.a has {x}'],
  ['the file', { containerFile: '{x}' }, 'containerFile has {x}'],
  ['the context', { context: 'a/{x}' }, 'context has {x}'],
  ['a platform', { platforms: ['linux/a b'] }, 'platforms: "linux/a b" is not a platform'],
])('refuses a fault in %s', (_name, fields, message) => {
  expect(() => createRecipes([{ ...tool, ...fields }], '/')).toThrow(InvalidRecipe);
  expect(() => createRecipes([{ ...tool, ...fields }], '/')).toThrow(message);
});
